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


def _persons(layout: Layout) -> int:
    """Persons of other journeys on this stack, who count in the nation too."""
    query = {"period": "2026Q3", "scope": "VN", "indicator": "I-01"}
    key = stack_secrets.of(layout).api_key
    url = f"http://127.0.0.1:{layout.api_port('reporting')}/v1/figures"
    answer = httpx.get(url, params=query, headers={"Authorization": f"Bearer {key}"}, timeout=30).raise_for_status()
    return int(answer.json()["figures"][0]["counts"]["all"])


def test_the_demo_ends_with_a_report_an_audit_without_difference_and_the_notices(whole: Layout) -> None:
    others = _persons(whole)
    done, result = _demo(whole)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert result["events"] == 71_365
    assert result["copies"] == 2_079
    assert result["late"] > 10_000
    assert result["persons"] == 11_506 + others
    assert result["completions"] == 8_917
    assert result["cells_compared"] > 250_000
    assert result["cells_differing"] == 0
    assert result["notices_sent"] == 36
    assert "BÁO CÁO QUÝ III/2026" in done.stdout
    assert "Thành phố Hồ Chí Minh" in done.stdout.replace("\n", " ") or "Hồ Chí" in done.stdout
    done, again = _demo(whole)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "KHÔNG đổi (unchanged)" in done.stdout
    assert {name: again[name] for name in ("persons", "completions", "cells_compared", "notices_sent")} == {
        name: result[name] for name in ("persons", "completions", "cells_compared", "notices_sent")
    }
