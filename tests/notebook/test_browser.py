"""A notebook in JupyterLab, in Chromium: the pixels that `show` shows there, and cells that run again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from support.blocks import block_file, fresh_name
from support.waiting import wait_until

nbformat = pytest.importorskip("nbformat")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
for needed in ("jupyterlab", "ipykernel", "jupyter_rfb"):
    pytest.importorskip(needed)

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SLOW = 120.0  # seconds for JupyterLab to start, and for its page to load, beside other programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(360),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]

CREATE = """
import numpy as np, shmring
runs = globals().get("runs", 0) + 1
shape = (48, 64)
ring = shmring.Ring.create(NAME, shape=shape, dtype="u1", slots=8)
out = ring.producer()
out.put((np.arange(np.prod(shape)).reshape(shape) + 7 * runs).astype("u1"))
"""
SHOW = "import shmring.jupyter\nview = shmring.jupyter.show(NAME, width=128, quality=100)\nview"
END = "view.close(); out.close(); ring.unlink(); ring.close()"
CELLS = (CREATE, SHOW, END)


def pattern(runs: int) -> np.ndarray:
    """What the cell publishes the first, second, … time that it runs."""
    gray = (np.arange(48 * 64).reshape(48, 64) + 7 * runs).astype("u1")
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2)


@pytest.fixture(scope="module")
def name():
    return fresh_name()


@pytest.fixture(scope="module")
def address(name, tmp_path_factory):
    """JupyterLab, and the address of a notebook in it."""
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(cell.replace("NAME", repr(name))) for cell in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "live.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex()
    options = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder, "ServerApp.open_browser": False, "ServerApp.allow_root": True,
        "IdentityProvider.token": token, "LabApp.expose_app_in_browser": True,
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", *(f"--{key}={value}" for key, value in options.items())]
    private = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "RUNTIME")}
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "IPYTHONDIR": str(folder / "ipython")}
    with open(folder / "log", "wb") as log:
        lab = subprocess.Popen(command, env={**os.environ, **private, **path}, stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{base}/api?token={token}"), "JupyterLab answers", SLOW)
        yield f"{base}/doc/tree/live.ipynb?token={token}"
    finally:
        lab.terminate()
        lab.wait(SLOW)  # it ends its kernels
    assert not block_file(name).exists(), Path(folder / "log").read_text()


def answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urlopen(address).read())
    return False


class Notebook:
    """An open notebook: its cells are run by their numbers."""

    def __init__(self, page, address: str) -> None:
        self.page = page
        page.set_default_timeout(1000 * SLOW)
        page.goto(address)
        page.wait_for_function("globalThis.jupyterapp?.shell?.currentWidget?.sessionContext")
        page.evaluate(
            """async () => {
                await jupyterapp.restored;
                const { sessionContext } = jupyterapp.shell.currentWidget;
                await sessionContext.ready;
                await sessionContext.session.kernel.info;
            }"""
        )
        page.wait_for_function("jupyterapp.commands.isEnabled('notebook:run-cell')")

    def run(self, cell: int) -> None:
        """Run one cell, wait for its end, and fail if it raises."""
        done = self.page.evaluate(
            """async (cell) => {
                const { content } = jupyterapp.shell.currentWidget;
                content.deselectAll();
                content.activeCellIndex = cell;
                return await jupyterapp.commands.execute("notebook:run-cell");
            }""",
            cell,
        )
        assert done, self.page.locator(".jp-CodeCell").nth(cell).inner_text()

    def shows(self, picture: np.ndarray, cell: int = 1) -> None:
        """Wait until the picture under a cell has these pixels, each of them."""
        wait_until(lambda: np.array_equal(self.pixels(cell), picture), "the picture is there", SLOW)

    def pixels(self, cell: int) -> np.ndarray | None:
        """The pixels that the browser has of the picture under a cell."""
        found = self.page.evaluate(
            """async (cell) => {
                const picture = document.querySelectorAll(".jp-CodeCell")[cell].querySelector("img");
                if (!picture?.naturalWidth) return null;
                if (await picture.decode().catch(() => "the next one came")) return null;
                const { naturalWidth: width, naturalHeight: height } = picture;
                const pen = new OffscreenCanvas(width, height).getContext("2d");
                pen.drawImage(picture, 0, 0);
                const bytes = pen.getImageData(0, 0, width, height).data;
                const text = bytes.reduce((before, one) => before + String.fromCharCode(one), "");
                return [height, width, btoa(text)];
            }""",
            cell,
        )
        if found is None:
            return None
        height, width, encoded = found
        return np.frombuffer(b64decode(encoded), "u1").reshape(height, width, 4)[..., :3]


@pytest.fixture(scope="module")
def notebook(address):
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", *sandbox])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        yield Notebook(page, address)
        browser.close()


def test_pixels_in_jupyterlab(notebook):
    """The picture has every pixel of the frame; a cell that creates the ring again does what one expects."""
    notebook.run(0)
    notebook.run(1)
    notebook.shows(pattern(1))
    notebook.run(0)  # the view has the name, so it follows
    notebook.shows(pattern(2))
    notebook.run(1)  # a second view, in the place of the first
    notebook.shows(pattern(2))
    notebook.run(2)
