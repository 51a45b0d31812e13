"""Every example runs, ends by itself, and finds its own result right."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.waiting import PATIENCE

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py"))
QUICK = "digitiser_windows.py"  # the others are seconds of their own; .ci/run runs each of them


@pytest.fixture
def run(nothing_left_behind, tmp_path):
    """`run(example)`: what it printed; its process group is ended with the test."""

    def run(example: str, **environment: str) -> str:
        process = subprocess.Popen(
            [sys.executable, str(FOLDER / example)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=2 * PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert (process.returncode, errors) == (0, ""), output + errors
        return output

    return run


def aravis() -> bool:
    ask = ["pkg-config", "--exists", "aravis-0.8"]
    return shutil.which(ask[0]) is not None and subprocess.run(ask).returncode == 0


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize(
    "example", [pytest.param(one, marks=[] if one == QUICK else pytest.mark.stress) for one in EXAMPLES]
)
def test_example(run, example):
    if example.startswith("c_") and shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    if example.startswith("c_aravis") and not aravis():
        pytest.skip("needs pkg-config and the headers of Aravis (Debian: libaravis-dev libusb-1.0-0-dev)")
    assert run(example).strip()


@pytest.mark.stress
def test_pipeline_without_pyav(run, tmp_path):
    (tmp_path / "av.py").write_text("raise ImportError\n")
    output = run("pipeline.py", PYTHONPATH=str(tmp_path))
    assert output.startswith("PyAV is missing")
