"""What the demo promises of its asking and of what it leaves behind."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo import asking
from deploy.demo.asking import NotReady, ask
from deploy.demo.result import Result, nation

URL = "http://127.0.0.1:18101/v1/registers/courses/AAA"


def _service(*answers: int | None) -> httpx.AsyncClient:
    """A service that gives these answers in turn, then the last one for ever; None: nobody listens."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        if status is None:
            raise httpx.ConnectError("All connection attempts failed")
        return httpx.Response(status, json={}, request=request)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSE_S", 0)


async def test_a_service_that_is_started_again_is_waited_for() -> None:
    async with _service(None, None, 503, 200) as http:
        assert (await ask(http, "enrollment", "PUT", URL)).status_code == 200
    async with _service(None, 200) as http:
        with pytest.raises(httpx.ConnectError, match="All connection attempts failed"):
            await http.put(URL)


@pytest.mark.parametrize(("answer", "wrong"), [(None, "does not answer"), (503, "is not ready")])
async def test_one_that_does_not_come_back_is_named_with_what_to_do(answer: int | None, wrong: str) -> None:
    async with _service(answer) as http:
        with pytest.raises(NotReady) as told:
            await ask(http, "enrollment", "PUT", URL, within=0)
    assert str(told.value) == f"enrollment {wrong} at http://127.0.0.1:18101 for 0 s: 'make up' starts what is missing."


async def test_a_refusal_is_not_asked_again() -> None:
    async with _service(422, 200) as http:
        with pytest.raises(httpx.HTTPStatusError):
            await ask(http, "enrollment", "PUT", URL)


def _run(file: Path, *, seconds: float, interrupted: bool = False) -> Any:
    run = Result(file)
    run.begin()
    if not interrupted:
        run.keep({"persons": 1, **run.rate(1000, seconds)})
    return json.loads(file.read_text())


def test_the_rate_is_that_of_the_first_run(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    assert not Result(file).again
    first = _run(file, seconds=2)
    assert first == {"persons": 1, "seconds": 2, "events_per_second": 500, "finished": True}
    assert Result(file).again
    assert _run(file, seconds=100, interrupted=True) == first
    assert _run(file, seconds=100) == first


def test_the_rate_of_an_interrupted_first_run_is_never_told(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    assert _run(file, seconds=2, interrupted=True) == {"finished": False}
    assert not Result(file).again, "figures may differ from those of a run that did not end"
    for _ in range(2):
        assert _run(file, seconds=2) == {"persons": 1, "seconds": None, "events_per_second": None, "finished": True}


def test_persons_and_completions_are_of_the_nations_row_of_the_report() -> None:
    rows = [("I-01", "ALL", "VN", 9), ("I-05", "ALL", "VN", 4), ("I-05", "KHXH", "VN", 2), ("I-01", "ALL", "VN/01", 5), ("I-04", "ALL", "VN", 3)]
    figures = [{"indicator": indicator, "course_set": course_set, "scope": scope, "numerator": value} for indicator, course_set, scope, value in rows]
    assert nation({"figures": figures}) == {"persons": 9, "persons_completed": 3, "completions": 4}
