"""shmring.jupyter: a widget that shows a ring, with a browser that the tests play."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import shmring
from shmring import attrs
from support.waiting import PATIENCE

jupyter_rfb = pytest.importorskip("jupyter_rfb")

from shmring import jupyter  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what IPython is made of
]


class Browser:
    """What the page of a notebook does with a widget."""

    def __init__(self, view: jupyter.RingView, monkeypatch) -> None:
        self.view, self.got = view, []
        monkeypatch.setattr(view, "send", lambda content, buffers=None: self.got.append((content, buffers)))

    def look(self) -> None:
        self.view._has_visible_views = True

    def look_away(self) -> None:
        self.view._has_visible_views = False

    def acknowledge(self) -> None:
        last = self.got[-1][0]
        self.view._frame_feedback = {
            "index": last["index"], "timestamp": last["timestamp"], "localtime": last["timestamp"]
        }  # fmt: skip

    async def frames(self, count: int, *, acknowledge: bool = True) -> None:
        """Wait until so many pictures have come."""
        async with asyncio.timeout(PATIENCE):
            while len(self.got) < count:
                await asyncio.sleep(0.001)
                if acknowledge and self.got:
                    self.acknowledge()

    async def until(self, true) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0.001)


@pytest.fixture
def show(monkeypatch):
    """Show a ring in a notebook, to a browser; both end with the test."""
    views = []

    def shown(ring, **options) -> Browser:
        with contextlib.redirect_stdout(io.StringIO()):  # where IPython displays things without a notebook
            view = jupyter.show(ring, **{"quality": 100, "rate": 1000, **options})
        views.append(view)
        browser = Browser(view, monkeypatch)
        browser.look()
        return browser

    yield shown
    for view in views:
        view.close()


@pytest.fixture
def camera(make):
    return make(shape=(48, 64), dtype="u1", slots=8)


def pixels(browser: Browser, number: int = -1) -> np.ndarray:
    """What a picture shows."""
    image = pytest.importorskip("PIL.Image")
    content, buffers = browser.got[number]
    assert content["mimetype"] == "image/png"
    return np.asarray(image.open(io.BytesIO(buffers[0])))


def run(test):
    asyncio.run(test())


def test_frames_become_pictures(camera, show):
    image = np.arange(48 * 64, dtype="u2").reshape(48, 64).astype("u1")

    async def test():
        with camera.producer() as out:
            browser = show(camera)
            out.put(image)
            await browser.frames(1)
            found = pixels(browser)
            assert found.shape == (48, 64, 3)
            assert (found == image[..., np.newaxis]).all()
            assert browser.view.shown == 1
            assert [one.held for one in camera.stats().consumers] == [0]

    run(test)


def test_a_slow_browser_gets_the_newest_and_holds_nothing(camera, show):
    """It gets no third picture before it says that it has drawn the first: the producer never waits."""

    async def test():
        with camera.producer() as out:
            browser = show(camera)
            for number in range(2):
                out.put(np.full((48, 64), number, "u1"))
                await browser.frames(number + 1, acknowledge=False)
            for number in range(2, 100):
                out.put(np.full((48, 64), number, "u1"), timeout=0)
                await asyncio.sleep(0)
            assert len(browser.got) == 2
            browser.acknowledge()
            await browser.frames(3)
            assert (pixels(browser) == 99).all()
            assert (browser.view.shown, browser.view.skipped) == (3, 97)

    run(test)


def test_the_browser_is_heard_in_another_thread(camera, show):
    """JupyterLab has it so: pictures are then made in two threads, and one of them holds the only slot."""

    async def test():
        stopped = threading.Event()

        def ask():
            while not stopped.is_set():
                browser.view.get_frame()

        with camera.producer() as out:
            browser = show(camera)
            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            try:
                for number in range(300):
                    out.put(np.full((48, 64), number % 256, "u1"))
                    browser.view.get_frame()
                    await asyncio.sleep(0)
            finally:
                stopped.set()
                for thread in threads:
                    thread.join()
            assert browser.view.ended == ""
            assert browser.view.shown + browser.view.skipped == 300

    run(test)


def test_nobody_looks(camera, show, monkeypatch):
    """The view leaves the ring, and comes back when it is seen again."""
    monkeypatch.setattr(jupyter, "UNSEEN", 0.0)

    async def test():
        with camera.producer() as out:
            browser = show(camera)
            out.put(np.zeros((48, 64), "u1"))
            await browser.frames(1)
            browser.look_away()
            await browser.until(lambda: not camera.stats().consumers)
            out.put(np.full((48, 64), 7, "u1"))
            assert len(browser.got) == 1
            browser.look()
            await browser.frames(2)
            assert (pixels(browser) == 7).all()

    run(test)


def test_the_end_of_the_stream(camera, show):
    async def test():
        out = camera.producer()
        out.put(np.full((48, 64), 5, "u1"))
        browser = show(camera)
        out.close()
        await browser.until(lambda: browser.view.ended)
        assert (pixels(browser) == 5).all()  # the last frame comes before the end
        assert browser.view.ended == "the producer closed it"
        assert browser.view.title.endswith("ended: the producer closed it (1 frame shown)")
        assert not camera.stats().consumers
        browser.view._rfb_handle_msg(None, {"type": "resize", "width": 9, "height": 9, "ratio": 1}, [])
        await browser.frames(2)  # a page that is loaded again gets the last picture
        assert (pixels(browser) == 5).all()

    run(test)


@pytest.mark.parametrize("sees", [True, False], ids=["slow browser", "nobody looks"])
def test_the_end_comes_whatever_the_browser_does(camera, show, sees):
    async def test():
        out = camera.producer()
        browser = show(camera)
        for number in range(2):  # as many as may be on their way
            out.put(np.zeros((48, 64), "u1"))
            await browser.frames(number + 1, acknowledge=False)
        if not sees:
            browser.look_away()
        out.put(np.full((48, 64), 77, "u1"))
        out.close()
        await browser.until(lambda: browser.view.ended)
        assert "ended: the producer closed it" in browser.view.title
        assert not camera.stats().consumers
        assert len(browser.got) == 2
        browser.look()
        browser.acknowledge()
        await browser.frames(3)
        assert (pixels(browser) == 77).all()

    run(test)


def test_a_failed_producer(camera, show):
    async def test():
        out = camera.producer()
        browser = show(camera)
        out.close(error="the lens cap is on")
        await browser.until(lambda: browser.view.ended)
        assert "ended: the producer failed: the lens cap is on" in browser.view.title

    run(test)


def test_a_killed_producer(make, peer, show):
    other = peer()
    ring = make(shape=(64, 64), dtype="u1", slots=4)

    async def test():
        other.run(attach_and_produce, ring.name)
        browser = show(ring)
        await browser.frames(1)
        os.kill(other.pid, signal.SIGKILL)
        await browser.until(lambda: browser.view.ended)
        assert browser.view.ended == "the producer died"

    run(test)


def test_a_name_is_followed(make, name, show):
    """From one producer to the next, from one ring to the next, whatever its frames are."""

    async def test():
        first = make(name=name, shape=(48, 64), dtype="u1", slots=8)
        out = first.producer()
        browser = show(name, width=128)
        out.put(np.full((48, 64), 5, "u1"))
        await browser.frames(1)
        out.put(np.full((48, 64), 6, "u1"))
        out.close()
        await browser.frames(2)
        assert (pixels(browser) == 6).all()  # the last frame comes, even after the end
        waits = "the producer closed it: waits for the next ring of that name (2 frames shown)"
        await browser.until(lambda: browser.view.title.endswith(waits))
        assert browser.view.ended == ""
        with first.producer() as out:  # the next producer of the same ring
            out.put(np.full((48, 64), 7, "u1"))
            await browser.frames(3)
            assert (pixels(browser) == 7).all()
        await browser.until(lambda: "waits" in browser.view.title)
        first.unlink()
        table = make(name=name, dtype=[("a", "u1")])
        with table.producer():
            await browser.until(lambda: "are neither pictures nor signals" in browser.view.title)
        table.unlink()
        second = make(name=name, shape=(32, 16, 3), dtype="u1", slots=4)
        with second.producer() as out:
            out.put(np.full((32, 16, 3), [1, 2, 3], "u1"))
            await browser.until(lambda: browser.acknowledge() or pixels(browser).shape == (32, 16, 3))
            assert pixels(browser)[0, 0].tolist() == [1, 2, 3]
            assert browser.view.css_height == "256px"
            assert [one.label for one in second.stats().consumers] == ["notebook"]
            browser.view.close()
            assert not second.stats().consumers
        assert browser.view.ended == "the view was closed"

    run(test)


def test_while_a_name_is_waited_for_nothing_is_sent_again_and_again(make, show):
    ring = make(shape=(48, 64), dtype="u1", slots=8)

    async def test():
        out = ring.producer()
        browser = show(ring.name)
        out.put(np.zeros((48, 64), "u1"))
        await browser.frames(1)
        out.close()
        await browser.until(lambda: "waits" in browser.view.title)
        await browser.frames(len(browser.got))
        calls = []
        draw = browser.view.get_frame
        browser.view.get_frame = lambda: calls.append(draw()) or calls[-1]
        await browser.until(lambda: len(calls) > 3)
        assert [one is None for one in calls[1:]] == [True] * len(calls[1:])
        browser.view._rfb_handle_msg(None, {"type": "resize", "width": 9, "height": 9, "ratio": 1}, [])
        count = len(calls)
        await browser.until(lambda: any(one is not None for one in calls[count:]))  # a page loaded again

    run(test)


def attach_and_produce(here, name):
    here.ring = shmring.Ring.attach(name)
    here.producer = here.ring.producer()
    here.producer.put(np.zeros(here.ring.shape, here.ring.dtype))


def test_a_ring_that_somebody_closes(camera, show):
    async def test():
        with camera.producer() as out:
            browser = show(camera)
            out.put(np.zeros((48, 64), "u1"))
            await browser.frames(1)
        camera.close()
        await browser.until(lambda: browser.view.ended)
        assert browser.view.ended == "the ring was closed here"

    run(test)


def test_closing_the_view_gives_everything_back(camera, show):
    async def test():
        with camera.producer() as out:
            browser = show(camera.name)
            out.put(np.zeros((48, 64), "u1"))
            await browser.frames(1)
            mine = browser.view._ring
            browser.view.close()
            assert mine.closed
            assert not camera.closed
            assert not camera.stats().consumers
            assert browser.view.ended == "the view was closed"

    run(test)


def test_a_ring_that_may_only_be_read(camera, show):
    async def test():
        with camera.producer() as out, shmring.Ring.attach(camera.name, readonly=True) as ring:
            browser = show(ring)
            out.put(np.full((48, 64), 9, "u1"))
            await browser.frames(1)
            assert (pixels(browser) == 9).all()
            assert not camera.stats().consumers

    run(test)


def test_levels_and_colors_can_be_changed(make, show):
    ring = make(shape=(2, 2), dtype="u2", slots=4)
    frame = np.array([[100, 200], [300, 400]], "u2")

    async def test():
        with ring.producer() as out:
            browser = show(ring, levels=(100, 400))
            out.put(frame)
            await browser.frames(1)
            assert pixels(browser)[..., 0].tolist() == [[0, 85], [170, 255]]
            browser.view.levels = (0, 200)
            out.put(frame)
            await browser.frames(2)
            assert pixels(browser)[..., 0].tolist() == [[128, 255], [255, 255]]
            browser.view.levels = None
            browser.view.colormap = "viridis"
            out.put(np.array([[0, 0], [0, 65535]], "u2"))
            await browser.frames(3)
            assert pixels(browser)[0, 0].tolist() == [68, 1, 84]
            assert pixels(browser)[1, 1].tolist() == [253, 231, 37]
            with pytest.raises(ValueError, match="there is no color map 'nonsense'"):
                browser.view.colormap = "nonsense"
            with pytest.raises(ValueError, match="levels are what becomes black"):
                browser.view.levels = (3, 3)

    run(test)


def test_large_frames_are_made_smaller_here(make, show):
    ring = make(shape=(480, 640, 3), dtype="u1", slots=4, attrs=attrs.describe(color="bgr"))

    async def test():
        with ring.producer() as out:
            browser = show(ring, width=320)
            frame = np.zeros((480, 640, 3), "u1")
            frame[..., 2] = 255  # red
            out.put(frame)
            await browser.frames(1)
            assert pixels(browser).shape == (240, 320, 3)
            assert (pixels(browser) == (255, 0, 0)).all()
            browser.view._rfb_handle_msg(
                None, {"type": "resize", "width": 640, "height": 480, "ratio": 2}, []
            )
            out.put(frame)
            await browser.frames(2)
            assert pixels(browser).shape == (480, 640, 3)

    run(test)


def test_signals_are_traces(make, show):
    ring = make(shape=(2, 1000), dtype="f4", slots=4, attrs=attrs.describe(axes=["channel", "time"]))

    async def test():
        with ring.producer() as out:
            browser = show(ring, width=100)
            frame = np.stack([np.linspace(0, 1, 1000), np.full(1000, 0.5)]).astype("f4")
            out.put(frame)
            await browser.frames(1)
            found = pixels(browser)
            assert found.shape == (40, 100, 3)
            assert found[39, 0].tolist() == jupyter.TRACES[0].tolist()
            assert found[0, 99].tolist() == jupyter.TRACES[0].tolist()
            assert (found[20, 1:40] == jupyter.TRACES[1]).all()
            assert (found[0, :50] == 255).all()

    run(test)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5000,), (3000, 2), (7, 1000), (40, 400)])
@pytest.mark.parametrize("dtype", ["u1", ">i4", "f8", "c8", "?"])
def test_traces_of_any_signal(shape, dtype):
    said = attrs.read_attrs({"axes": ["channel", "time"][2 - len(shape) :]}, shape, np.dtype(dtype))
    assert said.kind == "signal"
    frame = np.zeros(shape, dtype)
    assert jupyter.traces(frame, said, 100, 40, None).shape == (40, 100, 3)
    if frame.dtype.kind == "f":
        frame[...] = np.nan
        assert (jupyter.traces(frame, said, 100, 40, None) == 255).all()
        frame.flat[0] = np.inf
        assert jupyter.traces(frame, said, 100, 40, None).shape == (40, 100, 3)


def test_values_that_are_none_leave_the_rest_of_their_column():
    """One in each column of pixels, which has the lowest and the highest of the others."""
    frame = np.tile([0.0, 1.0], 500)
    said = attrs.read_attrs({}, frame.shape, frame.dtype)
    whole = jupyter.traces(frame, said, 100, 40, None)
    frame[::10] = np.nan
    assert np.array_equal(jupyter.traces(frame, said, 100, 40, None), whole)


def test_of_many_channels_the_title_says_which_are_shown(make, show):
    ring = make(shape=(100, 50), dtype="f4", slots=4, attrs=attrs.describe(axes=["channel", "time"]))

    async def test():
        with ring.producer() as out:
            browser = show(ring, width=100)
            out.put(np.zeros((100, 50), "f4"))
            await browser.frames(1)
            await browser.until(lambda: "first 16 of 100 channels" in browser.view.title)

    run(test)


def test_what_cannot_be_shown(make, camera, monkeypatch):
    async def test():
        with pytest.raises(ValueError, match="neither pictures nor signals"):
            jupyter.show(make(shape=(3,), dtype="u1,f4"))
        with pytest.raises(ValueError, match="rate must be a number above 0"):
            jupyter.show(camera, rate=0)
        with pytest.raises(shmring.RingNotFound):
            jupyter.show("no-such-ring")

    run(test)
    with pytest.raises(RuntimeError, match="needs the event loop of a notebook"):
        jupyter.show(camera)


@pytest.mark.parametrize("what", [5, None, b"camera", "producer", "consumer", "listed"])
def test_what_is_no_ring(camera, what):
    async def test():
        with camera.producer() as out, camera.consumer(lossless=False) as reader:
            listed = next(one for one in shmring.rings() if one.name == camera.name)
            given = {"producer": out, "consumer": reader, "listed": listed}.get(what, what)
            with pytest.raises(TypeError, match="a Ring or its name, not"):
                jupyter.show(given)

    run(test)


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": 5}, {"levels": ("0", "5")}, {"levels": (None, 5)}, {"levels": (1, 2j)},
        {"levels": (0, float("inf"))}, {"levels": (0, 1, 2)}, {"width": 640.5}, {"width": float("inf")},
        {"width": 0}, {"quality": 0}, {"quality": 80.5}, {"quality": "high"},
    ],
)  # fmt: skip
def test_a_wrong_option_is_named_before_there_is_a_widget(camera, wrong):
    async def test():
        with pytest.raises((TypeError, ValueError), match=f"^{next(iter(wrong))}"):
            jupyter.show(camera, **wrong)

    run(test)


def test_without_the_extra():
    code = "import sys; sys.modules['jupyter_rfb'] = None; import shmring.jupyter"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 1
    assert 'pip install "shmring[jupyter]"' in said.stderr
