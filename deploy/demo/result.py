"""What a run of the demo found, for whoever reads it by program: `demo.json` in the stack's folder.

`persons` (I-01), `persons_completed` (I-04) and `completions` (I-05) are the nation's row of the frozen report, so all are of one
report and one moment: persons until the end of the quarter, completions in it; what came late is in none. `seconds` and
`events_per_second` are of the first run into a fresh stack: a later run sends copies only, which says nothing of the throughput.
When the first run was interrupted they are null until the stack is made anew.
"""

import json
from pathlib import Path
from typing import Any


class Result:
    """The file, and what the runs before this one left in it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._earlier: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None

    @property
    def again(self) -> bool:
        """Whether a run before this one came to its end."""
        return self._earlier is not None and self._earlier.get("finished", True)

    def begin(self) -> None:
        """Note that facts are about to be sent; what was kept of a run before stays."""
        if self._earlier is None:
            self._write({"finished": False})

    def rate(self, sent: int, seconds: float) -> dict[str, Any]:
        """`seconds` and `events_per_second` of the first run, which may be this one."""
        if self._earlier is None:
            return {"seconds": round(seconds, 1), "events_per_second": round(sent / seconds)}
        return {name: self._earlier.get(name) for name in ("seconds", "events_per_second")}

    def keep(self, found: dict[str, Any]) -> None:
        """Write what a run found that came to its end."""
        self._write(found | {"finished": True})

    def _write(self, found: dict[str, Any]) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(found, indent=2))
        fresh.replace(self._file)


def nation(report: dict[str, Any]) -> dict[str, int]:
    """Persons, those who completed, and completions of a frozen report: the nation's row over all courses."""
    row = {figure["indicator"]: int(figure["numerator"]) for figure in report["figures"] if (figure["scope"], figure["course_set"]) == ("VN", "ALL")}
    return {"persons": row.get("I-01", 0), "persons_completed": row.get("I-04", 0), "completions": row.get("I-05", 0)}
