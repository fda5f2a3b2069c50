"""What the services say of themselves while a fault lasts: readiness, and partitions that stand still."""

import re
from collections import Counter
from collections.abc import Mapping

import httpx

from tests.fault.harness.system import System

_HALTED = re.compile(r'^consume_halted_partitions\{.*reason="(?P<reason>\w+)".*\} (?P<count>[0-9.]+)$', re.MULTILINE)


async def halted(system: System, service: str) -> Mapping[str, int]:
    """How many partitions of a service stand still, by reason; workers that do not answer say nothing."""
    found: Counter[str] = Counter()
    async with httpx.AsyncClient(timeout=5) as http:
        for (name, number), process in list(system.processes.items()):
            if name == service and number and process.alive:
                try:
                    text = (await http.get(f"{process.url}/metrics")).text
                except httpx.HTTPError:
                    continue
                for match in _HALTED.finditer(text):
                    found[match["reason"]] += int(float(match["count"]))
    return +found


async def unready(system: System) -> Mapping[tuple[str, int], str]:
    """What every living process that is not ready says is wrong."""
    found: dict[tuple[str, int], str] = {}
    async with httpx.AsyncClient(timeout=5) as http:
        for replica, process in list(system.processes.items()):
            if process.alive:
                try:
                    answer = await http.get(f"{process.url}/readyz")
                except httpx.HTTPError as error:
                    found[replica] = type(error).__name__
                    continue
                if answer.status_code != 200:
                    found[replica] = "; ".join(told for told in answer.json()["checks"].values() if told != "ok")
    return found
