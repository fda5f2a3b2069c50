"""The demo as a user runs it, twice: figures that an audit confirms, and nothing changes the second time."""

import json
import os
import subprocess
import sys

import httpx

from deploy.local import secrets as stack_secrets
from deploy.local.layout import REPOSITORY, Layout


def _demo(layout: Layout) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
    env = {**os.environ, "STACK_DIR": str(layout.root), "STACK_PORT_OFFSET": str(layout.offset)}
    done = subprocess.run([sys.executable, "-m", "deploy.demo"], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    return done, json.loads((layout.root / "demo.json").read_text())


def _live(layout: Layout, indicator: str) -> int:
    """What other journeys on this stack left, which counts in the nation too."""
    query = {"period": "2026Q3", "scope": "VN", "indicator": indicator}
    key = stack_secrets.of(layout).api_key
    url = f"http://127.0.0.1:{layout.api_port('reporting')}/v1/figures"
    answer = httpx.get(url, params=query, headers={"Authorization": f"Bearer {key}"}, timeout=30).raise_for_status()
    return int(answer.json()["figures"][0]["counts"]["all"])


def test_the_demo_ends_with_a_report_an_audit_without_difference_and_the_notices(whole: Layout) -> None:
    others = {indicator: _live(whole, indicator) for indicator in ("I-01", "I-04", "I-05")}
    done, result = _demo(whole)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert result["events"] == 71_365
    assert result["copies"] == 2_079
    assert result["late"] > 10_000
    assert result["persons"] == 11_506 + others["I-01"]
    assert result["persons_completed"] == 8_704 + others["I-04"]
    assert result["completions"] == 4_354 + others["I-05"]
    assert result["cells_compared"] > 250_000
    assert result["cells_differing"] == 0
    assert result["notices_sent"] == 36
    assert "BÁO CÁO QUÝ III/2026" in done.stdout
    assert "Thành phố Hồ Chí Minh" in done.stdout.replace("\n", " ") or "Hồ Chí" in done.stdout
    done, again = _demo(whole)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "KHÔNG đổi (unchanged)" in done.stdout
    same = ("persons", "persons_completed", "completions", "cells_compared", "notices_sent", "seconds", "events_per_second")
    assert {name: again[name] for name in same} == {name: result[name] for name in same}
