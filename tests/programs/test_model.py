"""The model of the protocol, checked by spin in its short form; see docs/model.md."""

import shutil
import subprocess
import sys

import pytest

import check
from instances import INSTANCES, MUTANTS

SOURCES = "".join(path.read_text() for path in sorted(check.HERE.glob("*.pml")))


def test_every_mutant_is_in_the_model() -> None:
    assert [name for name in MUTANTS if f"def {name}\n" not in SOURCES] == []


def test_every_mutant_names_an_instance() -> None:
    assert {where for _, where in MUTANTS.values()} <= set(INSTANCES)


@pytest.mark.model
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not (shutil.which("spin") and shutil.which("gcc")), reason="needs spin and gcc")
def test_the_short_form() -> None:
    done = subprocess.run(
        [sys.executable, str(check.HERE / "check.py"), "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
