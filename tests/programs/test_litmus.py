"""Weak memory: the tests of tests/provers/litmus, explored by Relacy; what mutants.py takes for granted."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import mutants
from source_labels import documented_edges

TREE = Path(__file__).parents[2]
HERE = TREE / "tests" / "provers"
RELACY = Path("/usr/include/relacy/relacy.hpp")

needs_relacy = pytest.mark.skipif(
    not (RELACY.exists() and shutil.which("g++") and shutil.which("make")),
    reason="needs relacy-dev, g++, make",
)


def litmus(out: Path, *arguments: str) -> str:
    """What the litmus tests print."""
    command = [
        "make",
        "-s",
        "-C",
        str(HERE / "litmus"),
        f"OUT={out}",
        f"ARGUMENTS={' '.join(arguments)}",
        "run",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return said


@needs_relacy
@pytest.mark.model
@pytest.mark.timeout(600)
def test_no_execution_breaks_a_promise_and_every_label_takes_a_step(tmp_path: Path) -> None:
    said = litmus(tmp_path, "-l")
    assert ", 0 failed" in said
    steps = {(name, int(line)) for name, line in re.findall(r"^step \S*/(\w+\.h):(\d+)$", said, re.MULTILINE)}
    missed = []
    for mutant in mutants.all_mutants(mutants.INCLUDE):
        change = mutant.changes[0]
        path = mutants.INCLUDE / "shmring" / change.file
        first, last = (path.read_text().count("\n", 0, at) + 1 for at in (change.start, change.end))
        if mutant.what != "re-check" and not any((path.name, n) in steps for n in range(first, last + 3)):
            missed.append(mutant.key)
    assert not missed


@needs_relacy
@pytest.mark.model
@pytest.mark.timeout(600)
def test_random_executions_of_any_number_of_preemptions(tmp_path: Path) -> None:
    assert ", 0 failed" in litmus(tmp_path, "-r", "20000")


def test_each_documented_edge_has_a_litmus_test() -> None:
    tables = "".join(path.read_text() for path in (HERE / "litmus").glob("*.c"))
    named = {
        edge
        for text in re.findall(r'^ +(?:\{"\w+", )?"([\w, -]+)",', tables, re.MULTILINE)
        for edge in mutants.litmus_edges(text)
    }
    documented = documented_edges((TREE / "docs" / "protocol.md").read_text())
    assert documented <= named, sorted(documented - named)


def test_the_list_of_survivors_fits_the_headers() -> None:
    keys = {mutant.key for mutant in mutants.all_mutants(mutants.INCLUDE)}
    assert set(mutants.SURVIVORS) <= keys, sorted(set(mutants.SURVIVORS) - keys)
