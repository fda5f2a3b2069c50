"""A file of courses is taken whole or not at all, and what is wrong with it is said in words."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.enrollment.main import load_registers
from services.enrollment.registers.domain import Course
from services.enrollment.registers.handlers import UnusableFile, read_courses

HEADER = "code,title,launched_by,course_sets\n"


def test_courses_are_read_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "courses.csv"
    file.write_text("\ufeff" + HEADER + "BXD1,An toàn số,BXD,KH-440;STEM\nMOOC,Nhập môn,BGDĐT,\n", "utf-8")
    assert read_courses(file) == [Course("BXD1", "An toàn số", "BXD", ("KH-440", "STEM")), Course("MOOC", "Nhập môn", "BGDĐT", ())]


WRONG = [
    (HEADER + "khoá học 1,T,BXD,\n", "line 2: code: "),
    (HEADER + "A,T,BXD,\n,T,BXD,\n", "line 3: code: "),
    (HEADER + '"A","a\nb",BXD,\n', "line 3: title: "),
    (HEADER + "A,a\x00b,BXD,\n", "line 2: title: |no CSV"),
    (HEADER + "A,T,BXD,KH 440\n", "line 2: course_sets: "),
    (HEADER + "A,T\n", "line 2: launched_by: "),
    (HEADER + "A,T,BXD,\nA,U,BXD,\n", "line 3: code: stands twice"),
    ("code,title,launched_by\nA,T,BXD\n", "no column course_sets"),
    ("", "no column code, title, launched_by, course_sets"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_a_file_that_breaks_the_contract_is_refused_with_its_lines(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "courses.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(UnusableFile, match=told):
        read_courses(file)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "courses.csv"
    file.write_bytes((HEADER + "A,Khoá,BXD,\n").encode("utf-16"))
    with pytest.raises(UnusableFile, match="no CSV in UTF-8"):
        read_courses(file)


def test_the_command_says_it_in_one_sentence_and_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    for name, value in (("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"), ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x"), ("HTTP_PORT", "1")):
        monkeypatch.setenv(f"ENROLLMENT_{name}", value)
    monkeypatch.setenv("ENROLLMENT_PSEUDONYM_KEY", "00" * 32)
    file = tmp_path / "courses.csv"
    file.write_text("code\nA\n", "utf-8")
    app = typer.Typer()
    app.command()(load_registers)
    outcome = CliRunner().invoke(app, ["--courses", str(file)])
    assert (outcome.exit_code, len(re.findall("\n", outcome.output))) == (2, 1)
    assert "the first line names no column title" in outcome.output
