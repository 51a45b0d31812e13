"""Without the libraries: shmring is there all the same, and says what to install for the rest."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("shmring.epics", "p4p", "epics"), ("shmring.bluesky", "ophyd_async", "bluesky")],
)
def test_what_to_install(module: str, library: str, extra: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; import shmring; import {module}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].endswith(f': pip install "shmring[{extra}]"')
    assert said.stderr.count("Traceback") == 1


def test_the_handler_of_micro_manager_needs_nothing() -> None:
    code = "import sys; sys.modules['pymmcore_plus'] = None; import shmring.pymmcore; print('fine')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "fine\n"
