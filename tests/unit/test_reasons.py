"""The list of reason codes is closed: what the code gives as a reason stands in it, explained, and nothing else does."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

from deploy.local.layout import SERVICES
from shared.chassis.letters.reasons import MACHINERY, Reason, ReasonBook
from shared.chassis.service import Service

ROOT = Path(__file__).resolve().parents[2]

GIVERS = {"Rejected": 0, "Refused": 1, "DeadLetter": 1, "OutOfWindow": 0}
"""Who is given a reason code, and as which argument."""


def given(source: str) -> tuple[set[str], list[str]]:
    """The reason codes that a module gives, and the places where a code is neither written out nor passed on."""
    tree = ast.parse(source)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    codes: set[str] = set()
    unclear: list[str] = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GIVERS):
            continue
        place = GIVERS[node.func.id]
        found = next((word.value for word in node.keywords if word.arg == "reason"), node.args[place] if place < len(node.args) else None)
        match found:
            case ast.Constant(value=str() as code):
                codes.add(code)
            case ast.Attribute(attr="reason"):
                pass  # another one's reason, handed on
            case ast.Starred(value=ast.Call(func=ast.Name(id=name))) if name in functions:
                codes |= _returned(functions[name])
            case _:
                unclear.append(ast.unparse(node))
    return codes, unclear


def _returned(function: ast.FunctionDef) -> set[str]:
    """First elements of the pairs that a function returns."""
    pairs = [node.value.elts[0] for node in ast.walk(function) if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)]
    return {pair.value for pair in pairs if isinstance(pair, ast.Constant) and isinstance(pair.value, str)}


def _given_under(folder: str) -> tuple[set[str], list[str]]:
    codes: set[str] = set()
    unclear: list[str] = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        more, doubtful = given(path.read_text("utf-8"))
        codes |= more
        unclear += [f"{path.relative_to(ROOT)}: {call}" for call in doubtful]
    return codes, unclear


def _service(name: str) -> Service:
    found: Service = import_module(f"services.{name}.main").SERVICE
    return found


def test_the_machinery_gives_the_reasons_of_its_list_and_no_others() -> None:
    codes, unclear = _given_under("shared/chassis")
    assert unclear == []
    assert codes == {reason.code for reason in MACHINERY}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gives_the_reasons_of_its_list_and_no_others(name: str) -> None:
    codes, unclear = _given_under(f"services/{name}")
    assert unclear == []
    assert codes == {reason.code for reason in _service(name).reasons}


def test_a_code_that_is_in_no_list_is_seen_however_it_is_given() -> None:
    assert given('raise Rejected("too_salty", "more than 2 %")') == ({"too_salty"}, [])
    assert given('Refused(record, reason="too_salty", detail="")') == ({"too_salty"}, [])
    assert given('def f() -> tuple[str, str]:\n    return "too_salty", ""\n\nraise Rejected(*f())') == ({"too_salty"}, [])
    assert given("Refused(record, wrong.reason, wrong.detail)") == (set(), [])
    assert given('raise Rejected("too_" + what, "")')[1] == ["Rejected('too_' + what, '')"]
    assert given("raise Rejected(*elsewhere(error))")[1] == ["Rejected(*elsewhere(error))"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_reason_is_explained_with_what_to_do_in_both_languages(name: str) -> None:
    for reason in ReasonBook(_service(name).reasons).all.values():
        assert reason.code.replace("_", "").isalnum()
        assert reason.code == reason.code.lower()
        for text in (reason.vi, reason.en, reason.remedy_vi, reason.remedy_en):
            assert len(text) > 10, reason.code
            assert text.endswith("."), reason.code
        assert not reason.en.isascii() or reason.vi != reason.en
        assert not reason.vi.isascii(), f"{reason.code}: Vietnamese has its marks"
        assert not reason.remedy_vi.isascii(), f"{reason.code}: Vietnamese has its marks"


def test_a_code_cannot_mean_two_things() -> None:
    with pytest.raises(ValueError, match="too_large stands twice"):
        ReasonBook([Reason("too_large", "x", "x", "x", "x")])


def test_a_code_of_another_version_can_still_be_shown() -> None:
    assert ReasonBook().of("too_salty").en == "The running version does not list this code."
