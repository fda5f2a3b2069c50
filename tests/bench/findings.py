"""What a benchmark has measured so far, in a file: an interrupted run keeps it."""

import json
from pathlib import Path
from typing import Any


class Findings:
    """Measures by name, written whenever one is added. `finished` is false until all of them are there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.measures: dict[str, Any] = {}
        self._write(finished=False)

    def add(self, **measures: Any) -> None:
        """Keep what was measured."""
        self.measures |= measures
        self._write(finished=False)

    def finish(self) -> None:
        """Nothing is missing."""
        self._write(finished=True)

    def _write(self, *, finished: bool) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({"finished": finished, **self.measures}, indent=2))
