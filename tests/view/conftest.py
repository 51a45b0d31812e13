"""Servers of views, stopped at the end of the test."""

import pytest


@pytest.fixture
def serve(nothing_left_behind):
    """`serve(names)` serves a view; more options as those of `shmring.view.app`."""
    pytest.importorskip("uvicorn", reason="needs the extra view")
    pytest.importorskip("websockets", reason="needs the extra view")
    import shmring.view
    from support.viewing import Served

    started = []

    def start(names=None, **options):
        started.append(Served(shmring.view.app(names, **options)))
        return started[-1]

    yield start
    for one in started:
        one.stop()
