"""A benchmark that is interrupted keeps what it measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.local import postgres_folders, stack
from tests.bench import __main__ as bench
from tests.bench.findings import Findings


@pytest.mark.parametrize("reached", [False, True])
async def test_each_part_is_written_when_it_is_measured(reached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second part leaves the first, and nothing of a run before."""
    file = tmp_path / "new" / "bench.json"
    file.parent.mkdir()
    file.write_text('{"finished": true, "poison": "of a run before"}')

    async def raw_copy(_: Any) -> float:
        if not reached:
            raise KeyboardInterrupt
        return 5.4

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "FILE", file)
    for name in ("reset", "up", "down"):
        monkeypatch.setattr(stack, name, lambda _: None)
    monkeypatch.setattr(bench, "System", lambda _: None)
    monkeypatch.setattr(postgres_folders, "programs", lambda: None)
    monkeypatch.setattr(postgres_folders, "version", lambda _: 15)
    monkeypatch.setattr(bench, "_raw_copy", raw_copy)
    monkeypatch.setattr(bench, "life_stories", interrupted)
    with pytest.raises(KeyboardInterrupt):
        await bench.bench()
    kept = json.loads(file.read_text())
    assert kept.pop("machine")["postgres"] == 15
    assert kept == {"finished": False} | ({"raw_copy_rows_per_second": 5} if reached else {})


def test_findings_say_when_nothing_is_missing(tmp_path: Path) -> None:
    found = Findings(tmp_path / "bench.json")
    found.add(one=1)
    found.finish()
    assert json.loads((tmp_path / "bench.json").read_text()) == {"finished": True, "one": 1}
