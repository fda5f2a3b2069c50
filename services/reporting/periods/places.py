"""The territory as readers see it: names of nodes, and what lies directly below each."""

from collections.abc import Iterable

from services.reporting.figures.domain import NATION, UNPLACED

UNATTRIBUTED_VI = "Chưa xác định địa bàn"
"""What officials call those whose place is not known."""


class Places:
    """The register of territory with the rows of the unattributed, so that every total closes."""

    def __init__(self, units: Iterable[tuple[str, str, str, str, str]]) -> None:
        """Take the register: code, level, name, type, province."""
        self._names = {NATION: "Việt Nam", UNPLACED: UNATTRIBUTED_VI}
        self._children: dict[str, list[str]] = {NATION: []}
        communes: list[tuple[str, str, str, str]] = []
        for code, level, name, kind, province in units:
            if level == "province":
                node = f"{NATION}/{code}"
                self._names[node] = f"{kind} {name}"
                self._names[f"{node}/?"] = UNATTRIBUTED_VI
                self._children[NATION].append(node)
                self._children[node] = []
            else:
                communes.append((code, name, kind, province))
        for code, name, kind, province in communes:
            node = f"{NATION}/{province}/{code}"
            self._names[node] = f"{kind} {name}"
            self._children.setdefault(f"{NATION}/{province}", []).append(node)
        self._children[NATION].append(UNPLACED)
        for node in list(self._children):
            if node != NATION:
                self._children[node].append(f"{node}/?")

    def knows(self, node: str) -> bool:
        """Whether the node exists."""
        return node in self._names

    def name(self, node: str) -> str:
        """The node's name with its type; its path when the register does not know it."""
        return self._names.get(node, node)

    def children(self, node: str) -> list[str]:
        """The nodes directly below, the unattributed last."""
        return self._children.get(node, [])
