"""The page of `shmring view` in Chromium: one browser, one server, and pages that are checked for faults."""

from __future__ import annotations

import contextlib
import os
import shutil

import numpy as np
import pytest

from support.pages import Page, Server

pytest.importorskip("starlette", reason="needs the extra view")
pytest.importorskip("uvicorn", reason="needs the extra view")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# WebGL in software, as on a machine without a graphics card.
OPTIONS = ["--disable-gpu", "--enable-unsafe-swiftshader", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
SIZE = {"width": 1100, "height": 760}


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="session")
def server(folder):
    started = Server("--allow-record", str(folder))
    yield started
    started.end()


@pytest.fixture(scope="session")
def cookies(browser, server):
    """What the address with the token gives a browser."""
    context = browser.new_context()
    context.new_page().goto(f"{server.base}?token={server.token}")
    yield context.storage_state()
    context.close()


@pytest.fixture(scope="session")
def shared_page(browser, server, cookies):
    with contextlib.closing(
        browser.new_context(viewport=SIZE, color_scheme="dark", storage_state=cookies)
    ) as context:
        yield Page(context, server).open()


@pytest.fixture
def show(shared_page):
    """`show("camera", map="magma")` shows that ring on a page that is open already."""
    yield shared_page.go
    shared_page.go()
    faults = shared_page.faults.copy()
    shared_page.faults.clear()
    assert faults == []


@pytest.fixture
def open_page(browser, server, cookies):
    """`open_page("camera", map="magma")` opens a page with that ring; a fault of a page fails the test."""
    pages = []

    def open_page(*names, width=SIZE["width"], height=SIZE["height"], options=None, **settings) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, storage_state=cookies, **(options or {})
        )
        pages.append(Page(context, server))
        return pages[-1].open(*names, **settings)

    yield open_page
    for page in pages:
        page.page.context.close()
    assert [fault for page in pages for fault in page.faults] == []


@pytest.fixture
def stream(make):
    """A ring and its producer, which has published these frames."""
    producers = []

    def stream(*frames: np.ndarray, slots: int = 8, **options):
        ring = make(shape=frames[0].shape, dtype=frames[0].dtype, slots=slots, **options)
        out = ring.producer()
        producers.append(out)
        for frame in frames:
            out.put(frame)
        return ring, out

    yield stream
    for out in producers:
        out.close()
