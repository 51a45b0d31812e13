"""Notebooks that a real kernel runs: reprs, a ring that is created again, the live view."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
jupyter_core = pytest.importorskip("jupyter_core.utils")
pytest.importorskip("ipykernel")
pytest.importorskip("jupyter_rfb")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of what Jupyter is made of

HTML = "text/html"
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module", autouse=True)
def event_loop_that_stays() -> None:
    """Before the tests look what is left behind: Jupyter makes one, once."""

    async def nothing() -> None:
        pass

    jupyter_core.run_sync(nothing)()


@pytest.fixture
def notebook(name, nothing_left_behind, monkeypatch, tmp_path):
    """Run cells in one kernel; what each of them shows, by kind."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))

    def run(*cells: str) -> list[dict]:
        cells = [nbformat.v4.new_code_cell(cell.replace("NAME", repr(name))) for cell in cells]
        made = nbformat.v4.new_notebook(cells=cells)
        nbclient.NotebookClient(made, timeout=60, kernel_name="python3").execute()
        return [
            {kind: text for output in cell["outputs"] for kind, text in shown_by(output).items()}
            for cell in made.cells
        ]

    return run


def shown_by(output) -> dict[str, str]:
    if output["output_type"] == "stream":
        return {output["name"]: output["text"]}
    return dict(output["data"])


CREATE = """
import numpy as np, shmring
from shmring import attrs
ring = shmring.Ring.create(NAME, shape=(48, 64), dtype="u1", slots=8, attrs=attrs.describe(color="gray"))
out = ring.producer()
out.put(np.zeros((48, 64), "u1"))
ring
"""
AGAIN = CREATE.replace("(48, 64)", "(40, 60, 3)").replace("gray", "rgb")


def test_a_cell_can_be_run_again_and_a_ring_be_seen(notebook):
    shown = notebook(
        CREATE,
        CREATE,
        AGAIN,
        "ring.stats()",
        "frames = ring.consumer(); frame = frames.get(); frame",
        "import shmring.jupyter\nview = shmring.jupyter.show(ring, width=120); view",
        "import asyncio\nout.put(np.full((40, 60, 3), 9, 'u1'))\n"
        "for _ in range(3): await asyncio.sleep(0.01)\nprint(view.title, view.css_height)",
        "out.close()\nview._has_visible_views = True\nwhile not view.ended: await asyncio.sleep(0.01)\n"
        "print(view.ended)\nview.close(); frame.release(); frames.close(); ring.unlink(); ring.close()",
    )
    for number in (0, 1, 2, 4):
        assert "data:image/png" in shown[number][HTML]
        assert shown[number]["text/plain"].startswith("<shmring.")
    assert "shape (48, 64)" in shown[1][HTML]
    assert "shape (40, 60, 3)" in shown[2][HTML]
    assert "producer live" in shown[3][HTML]
    assert not any("stderr" in one for one in shown)
    assert WIDGET in shown[5]
    assert "40x60x3 uint8" in shown[6]["stdout"]
    assert "80px" in shown[6]["stdout"]
    assert shown[7]["stdout"] == "the producer closed it\n"


def test_a_restarted_kernel_finds_the_stale_ring_of_the_last_one(notebook):
    notebook(CREATE)
    shown = notebook(CREATE, "ring.unlink(); out.close(); ring.close()")
    assert "data:image/png" in shown[0][HTML]


def test_the_page_about_notebooks(notebook):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "notebooks.md").read_text()
    cells = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shown = notebook(*[cell.replace('"camera"', "NAME") for cell in cells])
    assert not any("stderr" in one for one in shown)
    assert [HTML in one for one in shown] == [False, True, True, False, False, False]
    assert "data:image/png" in shown[1][HTML]
    assert "data:image/png" in shown[2][HTML]
    assert WIDGET in shown[3]
