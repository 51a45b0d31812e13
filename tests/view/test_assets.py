"""What a browser loads: small, complete, and from nowhere else."""

from __future__ import annotations

import re
import zlib
from importlib.resources import files
from pathlib import Path

import pytest

STATIC = Path(str(files("shmring"))) / "view" / "static"
OURS = sorted(path for path in STATIC.glob("*.js") if not path.name.startswith("uPlot"))
MOST = 150_000  # bytes in the wheel, which is compressed


def test_small():
    found = {path.name: len(zlib.compress(path.read_bytes(), 6)) for path in STATIC.iterdir()}
    assert sum(found.values()) < MOST, found


def test_nothing_from_outside():
    """No address but those of XML's namespaces and of the licence of what was taken over."""
    for path in STATIC.iterdir():
        found = re.findall(r"https?://[^\s\"'`)]+", path.read_text())
        assert not [one for one in found if "www.w3.org" not in one and "leeoniya/uPlot" not in one], (
            path.name
        )


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_imports_are_there(path):
    for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
        assert (STATIC / name).is_file(), name


def test_every_module_is_loaded_at_once():
    """Not one after the other, as imports are found: that takes a second behind ssh."""
    page = (STATIC / "index.html").read_text()
    named = set(re.findall(r'(?:href|src)="static/([^"]+)"', page))
    assert named == {path.name for path in STATIC.iterdir()} - {"index.html", "uPlot.LICENSE.txt"}


def test_no_code_and_no_style_in_the_page():
    """The policy that is sent with the page allows none."""
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", page)


def test_uplot_comes_with_its_licence():
    assert "v1.6.32" in (STATIC / "uPlot.iife.min.js").read_text()[:200]
    assert "MIT License" in (STATIC / "uPlot.LICENSE.txt").read_text()
