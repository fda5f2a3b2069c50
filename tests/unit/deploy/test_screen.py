"""What is printed where nobody reads."""

import os
import subprocess
import sys

from deploy.local.layout import REPOSITORY

_PROGRAM = """
import sys
from deploy.local import screen
for number in range(3):
    {say}("a line that is longer than what the reader wanted")
print("went on", file=sys.stderr)
"""


def _without_a_reader(say: str) -> "subprocess.CompletedProcess[str]":
    """Run the program as `| head -1` would, once head has what it wants."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        words = [sys.executable, "-c", _PROGRAM.format(say=say)]
        return subprocess.run(words, cwd=REPOSITORY, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writer)


def test_who_reads_no_more_stops_nothing() -> None:
    done = _without_a_reader("screen.say")
    assert (done.returncode, done.stderr) == (0, "went on\n")


def test_print_as_it_comes_would_not_do() -> None:
    done = _without_a_reader("print")
    assert done.returncode != 0
    assert "BrokenPipeError" in done.stderr
