"""The C programs of tests/provers/c, which use the headers as any C program would; see its Makefile.

None of them is a default test: compilers take most of the time, and `make check` does the same in CI.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import shmring

HERE = Path(__file__).parents[1] / "provers" / "c"
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]  # `make check` takes all of them

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (COMPILERS and shutil.which("make")), reason="needs make, and gcc or clang"),
]


def make(out: Path, *targets: str, **variables: object) -> str:
    """What `make` prints for targets of provers/c/Makefile, with the headers of the package under test."""
    settings = {"OUT": out, "INCLUDE": shmring.get_include(), "LIMIT": "timeout 550", **variables}
    command = ["make", "-C", str(HERE), *(f"{name}={value}" for name, value in settings.items()), *targets]
    # A sanitizer's run-time that is preloaded for Python is not for these.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return said


@pytest.mark.stress
def test_the_self_test(tmp_path: Path) -> None:
    last = make(tmp_path, "selftest", CC=COMPILERS[0], OPTIMISE="-O0").splitlines()[-2:]
    assert any(line.endswith(" passed, 0 failed") for line in last), last


@pytest.mark.stress
def test_each_header_compiles_alone_as_c_and_as_cpp(tmp_path: Path) -> None:
    make(tmp_path, f"headers-{COMPILERS[0]}-c11", f"headers-{COMPILERS[0]}-c++17")


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", ["steps", "steps_groups", "stress", "processes", "groups"])
def test_stress(program: str, tmp_path: Path) -> None:
    said = make(tmp_path, f"run-native-{program}", CC=COMPILERS[0], DURATION=15, SEED=2)  # 1: `make check`
    assert "no violation" in said


@pytest.mark.sanitizer
@pytest.mark.timeout(600)
@pytest.mark.skipif("clang" not in COMPILERS, reason="needs clang")
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize("program", ["selftest", "steps", "steps_groups", "stress", "processes", "groups"])
def test_under_sanitizers(sanitizer: str, program: str, tmp_path: Path) -> None:
    if sanitizer == "thread" and program not in ("selftest", "stress"):
        pytest.skip("one thread, or no memory that threads share: nothing to see")
    make(tmp_path, f"run-{sanitizer}-{program}", OPTIMISE="-O1")
