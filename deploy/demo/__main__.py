"""`make demo`: real learning records, the whole way, to a frozen quarter, an audit and notices. What it found: `result.py`."""

import asyncio
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.demo.asking import NotReady
from deploy.demo.facts import COURSES, Sending, Told, facts, in_sending_order
from deploy.demo.pipeline import NotThrough, System, as_bytes
from deploy.demo.result import Result, nation
from deploy.local import services
from deploy.local.layout import REPOSITORY, SERVICES, Layout

PERIOD = "2026Q3"
"""The quarter that is frozen: 15 June to 14 September 2026."""

PERIODS = ("2026Q1", "2026Q2", "2026Q3", "2026Q4")
"""Quarters whose live figures are compared before and after a second run."""

_COLUMNS = {"I-01": "Người tham gia", "I-02": "Lượt đăng ký trong quý", "I-04": "Người hoàn thành", "I-05": "Lượt hoàn thành trong quý"}

console = Console(width=118 if not sys.stdout.isatty() else None)


async def demo() -> int:
    """Run the demo; 0 when every cell agrees and a second run changed nothing."""
    layout = Layout.from_environment()
    system = System(layout)
    console.rule("hocvu: từ lượt học thật đến báo cáo quý đã chốt")
    console.print(
        "Dữ liệu học tập là thật (OULAD, CC BY 4.0); địa bàn, nhóm đối tượng và ngày tháng được GÁN theo quy tắc cố định, "
        "không phải của người thật.\n(Learning records are real; places, groups and calendar days are assigned by a fixed rule.)"
    )
    try:
        return await _run(layout, system)
    except NotReady as error:
        console.print(f"[red]The demo cannot go on:[/red] {error}")
        return 1
    except (httpx.HTTPError, NotThrough) as error:
        console.print(f"[red]The demo cannot go on:[/red] {error or type(error).__name__}. Look at 'make status' and 'make logs'.")
        return 1
    finally:
        await system.close()


async def _run(layout: Layout, system: System) -> int:
    kept = Result(layout.root / "demo.json")
    # Only a run of the demo itself that came to its end is a run before this one.
    before = await _fingerprint(system) if kept.again else None
    await system.register_courses()
    told = facts(_communes())
    sending = in_sending_order(told)
    kept.begin()
    seconds = await _send_and_wait(system, sending.before)
    frozen = await system.freeze(PERIOD)
    report = await system.get("reporting", f"/v1/reports/{frozen['report']['report_id']}")
    await _print_report(system, report)
    await _send_late(system, sending, report)
    audited = await asyncio.to_thread(_audit, layout)
    notices = await _notices(system, frozen["report"])
    after = await _fingerprint(system)
    events = len(sending.before) + len(sending.after)
    result = {
        "events": events,
        "copies": events - len(told),
        "late": sending.late,
        **nation(report),
        "cells_compared": audited["cells_compared"],
        "cells_differing": audited["cells_differing"],
        "notices_sent": notices,
        **kept.rate(len(sending.before), seconds),
    }
    status = _conclude(layout, system, result, before, after, frozen, audited)
    kept.keep(result)
    return status


async def _send_and_wait(system: System, sent: Sequence[Told]) -> float:
    """Send facts and wait until they are through all services; seconds from the first to the last applied."""
    columns = (TextColumn("{task.description}"), BarColumn(40), TaskProgressColumn(), TimeElapsedColumn())
    last = started = time.monotonic()
    with Progress(*columns, console=console) as progress:
        sending = progress.add_task("Gửi sự kiện / sending      ", total=len(sent))
        through = progress.add_task("Qua bốn dịch vụ / applying ", total=None)
        await system.send(sent, lambda done: progress.update(sending, completed=done))
        last = time.monotonic()

        def tell(done: int, there: int) -> None:
            nonlocal last
            if done != progress.tasks[1].completed:
                last = time.monotonic()
            progress.update(through, completed=done, total=there)

        await system.until_through(tell)
        progress.update(through, completed=progress.tasks[1].total)
    return last - started


async def _send_late(system: System, sending: Sending, report: dict[str, Any]) -> None:
    """What arrives after the freeze changes the live figures and leaves the report as it is."""
    live = await _nation(system)
    await system.send(sending.after, lambda _: None)
    await system.until_through(lambda done, there: None)
    now = await _nation(system)
    kept = await system.get("reporting", f"/v1/reports/{report['report_id']}")
    same = "giữ nguyên (unchanged)" if kept["sha256"] == report["sha256"] else "ĐÃ ĐỔI (changed!)"
    changes = ", ".join(f"{name.lower()} {_number(live[one])} → {_number(now[one])}" for one, name in _COLUMNS.items())
    console.print(f"\nĐến sau khi chốt / late: {_number(len(sending.after))} sự kiện; báo cáo đã chốt {same}; số liệu hiện hành: {changes}")


async def _nation(system: System) -> dict[str, int]:
    """The live figures of the nation by indicator."""
    found = await system.get("reporting", "/v1/figures", period=PERIOD, scope="VN")
    return {figure["indicator"]: int(figure["counts"]["all"]) for figure in found["figures"]}


def _conclude(
    layout: Layout, system: System, result: dict[str, Any], before: str | None, after: str | None, frozen: dict[str, Any], audited: dict[str, Any]
) -> int:
    unchanged = before is None or before == after
    differing = f"[bold]{result['cells_differing']} ô sai lệch (cells differing)[/bold]"
    console.print(f"Đối chiếu độc lập / audit: {_number(result['cells_compared'])} ô số liệu đã đếm lại (cells compared), {differing}")
    for example in audited["examples"]:
        console.print("    " + " ".join(example))
    numbers = [_number(result[name]) for name in ("events", "copies", "late")]
    console.print("Sự kiện / events       : {} (bản sao / copies {}, đến muộn / late {})".format(*numbers))
    console.print(f"Thông lượng / rate     : {_rate(result)}")
    console.print(f"Thông báo / notices    : {result['notices_sent']} thư đã gửi về báo cáo này (mails sent about this report)")
    when = "đã chốt từ trước (frozen before)" if frozen["already_frozen"] else "vừa chốt (frozen now)"
    console.print(f"Báo cáo / report       : {frozen['report']['report_id']}, sha256 {frozen['report']['sha256'][:16]}…, {when}")
    if before is not None:
        console.print(f"Chạy lại / run again   : số liệu {'KHÔNG đổi (unchanged)' if unchanged else 'ĐÃ ĐỔI (changed!)'}: {before} → {after}")
    for service in SERVICES:
        console.print(f"  {service:<13} {system.url(service)}/docs")
    console.print(f"  kết quả / result   {os.path.relpath(layout.root / 'demo.json')}; API key trong {os.path.relpath(layout.root / 'secrets.json')}")
    return 0 if unchanged and not result["cells_differing"] else 1


def _rate(result: dict[str, Any]) -> str:
    if result["seconds"] is None:
        return "chưa đo được vì lần chạy đầu bị ngắt (not measured, the first run was interrupted; 'make reset' begins anew)"
    return f"{_number(result['events_per_second'])} sự kiện/giây trong {str(result['seconds']).replace('.', ',')} giây (events/s, s; first run)"


def _communes() -> list[str]:
    with (REPOSITORY / "services" / "enrollment" / "registers" / "territory.csv").open(encoding="utf-8", newline="") as file:
        return sorted(row["code"] for row in csv.DictReader(file) if row["level"] == "commune")


async def _fingerprint(system: System) -> str | None:
    """Digest of the live figures of nation and provinces over all quarters; None while there are none."""
    found = [
        (await system.get("reporting", "/v1/figures", period=period, scope="VN", children=True, course_set=course_set))["figures"]
        for period in PERIODS
        for course_set in ("ALL", *sorted({one for _, _, sets in COURSES.values() for one in sets}))
    ]
    if not any(figure["counts"]["all"] for figures in found for figure in figures):
        return None
    return hashlib.sha256(as_bytes(found)).hexdigest()[:16]


async def _print_report(system: System, report: dict[str, Any]) -> None:
    period = report["period"]
    cells = {(figure["scope"], figure["indicator"]): figure for figure in report["figures"] if figure["course_set"] == "ALL"}
    live = await system.get("reporting", "/v1/figures", period=PERIOD, scope="VN", children=True)
    nodes = dict.fromkeys(figure["scope"] for figure in live["figures"])
    names = {figure["scope"]: figure["scope_name_vi"] for figure in live["figures"]}
    table = Table(title=f"BÁO CÁO {period['title_vi'].upper()} (từ {_day(period['from'])} đến {_day(period['to'])}), đã chốt", title_style="bold")
    table.add_column("Địa bàn")
    for name in _COLUMNS.values():
        table.add_column(name, justify="right")

    def add(scope: str, style: str | None = None) -> None:
        counts = [cells.get((scope, indicator), {}).get("numerator", 0) for indicator in _COLUMNS]
        table.add_row(names[scope], *(_number(count) for count in counts), style=style)

    for scope in nodes:
        if scope != "VN":
            add(scope)
    add("VN", "bold")
    console.print(table)
    console.print(
        "Người tham gia và người hoàn thành tính đến 24 giờ ngày cuối kỳ; lượt đăng ký và lượt hoàn thành tính trong kỳ. "
        "Mỗi người chỉ tính một lần. Tỷ lệ không đo được vì chưa có mẫu số (quy mô dân số theo nhóm)."
    )


def _audit(layout: Layout) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "services.reporting.main", "audit", "--json"],
        env={**os.environ, **services.service_env(layout, "reporting", "worker")}, cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if '"cells_compared"' in line]
    if not found:
        raise NotThrough(f"the audit could not run: {(done.stderr or done.stdout).strip()[-300:]}")
    answer: dict[str, Any] = json.loads(found[-1])
    return answer


async def _notices(system: System, report: dict[str, Any]) -> int:
    """Mails about this report that the mail server has taken; waits for those that are on their way."""
    subject = f"{report['report_id']}:{report['version']}"
    deadline = time.monotonic() + 30
    while True:
        messages = (await system.get("notifications", "/v1/messages", subject=subject, limit=500))["messages"]
        sent: int = sum(message["state"] == "sent" for message in messages)
        if (messages and sent == len(messages)) or time.monotonic() > deadline:
            return sent
        await asyncio.sleep(0.3)


def _day(iso: str) -> str:
    year, month, day = iso.split("-")
    return f"{day}/{month}/{year}"


def _number(count: int) -> str:
    return f"{count:,}".replace(",", ".")


if __name__ == "__main__":
    sys.exit(asyncio.run(demo()))
