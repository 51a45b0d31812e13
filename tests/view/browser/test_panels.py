"""What panels do: frames that stop and go, rings that end, read-outs, traces, tables, recordings."""

from __future__ import annotations

import contextlib
import os
import signal

import numpy as np
import pytest

import shmring
from support.pages import Page, Server

HEIGHT, WIDTH = 24, 40
GENERATOR = np.random.default_rng(2)


def flat(value: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), value, "u1")


def known_frames(page, name: str) -> str:
    return f"[...shmring.known.values()].find((ring) => ring.name === '{name}')?.frames"


# ---- frames


def test_pause_freezes(stream, show):
    ring, out = stream(flat(0))
    page = show(ring.name).shows(0)
    page.press("Space")
    page.page.wait_for_selector(".panel.paused")
    page.heard()
    frozen, count = page.pixels(), page.run("shmring.panels[0].pace.count")
    for value in range(1, 30):
        out.put(flat(value))
    page.wait(f"{known_frames(page, ring.name)} === 30")  # what the list says came later than the frames
    assert page.run("shmring.panels[0].last.seq") == 0
    assert page.run("shmring.panels[0].pace.count") == count
    assert np.array_equal(page.pixels(), frozen)
    assert "paused" in page.page.locator(".status").inner_text()
    page.press("Space")
    assert page.shows(29).pixels()[0, 0, 0] == 29
    assert page.run("shmring.panels[0].pace.skipped") == 28
    assert "skipped 28" in page.page.locator(".status").inner_text()


def test_step_by_step(stream, show):
    ring, out = stream(flat(0))
    page = show(ring.name).shows(0)
    page.press("Space")
    page.heard()
    out.put(flat(7))
    page.press(".")
    page.shows(1)
    out.put(flat(8))
    out.put(flat(9))
    page.wait(f"{known_frames(page, ring.name)} === 4")
    assert page.run("shmring.panels[0].last.seq") == 1
    page.press(".")
    assert page.shows(3).pixels()[0, 0, 0] == 9


def test_a_paused_picture_can_be_zoomed(stream, show):
    frame = GENERATOR.integers(0, 256, (2000, 3000)).astype("u1")
    ring, out = stream(frame)
    page = show(ring.name).shows(0)
    page.press("Space")
    page.heard().wait("shmring.panels[0].last.step[0] > 1")
    out.put(np.zeros_like(frame))
    page.view("zoomTo(2)")
    page.wait("shmring.panels[0].last.step[0] === 1")
    assert page.run("shmring.panels[0].last.seq") == 0
    (a, _, _, _, e, f), shown = page.view("viewport.toPanel"), page.canvas()
    assert a == 2
    y, x = (
        int((np.arange(size)[size // 2] + 0.5 - at) // 2)
        for size, at in ((shown.shape[0], f), (shown.shape[1], e))
    )
    assert shown[shown.shape[0] // 2, shown.shape[1] // 2, 0] == frame[y, x]


# ---- rings that end


def test_a_ring_that_is_closed(stream, show):
    ring, out = stream(flat(5))
    page = show(ring.name).shows(0)
    out.put(flat(6))
    out.close()
    page.page.wait_for_selector(".panel[data-state=closed]")
    assert "closed" in page.banner().inner_text()
    assert page.shows(1).pixels()[0, 0, 0] == 6


def publish(here, name: str) -> None:
    here.ring = shmring.Ring.attach(name)
    here.out = here.ring.producer()
    here.out.put(np.full(here.ring.shape, 9, "u1"))


def test_a_producer_that_dies(make, show, peer):
    ring = make(shape=(HEIGHT, WIDTH), dtype="u1", slots=8)
    other = peer()
    other.run(publish, ring.name)
    page = show(ring.name).shows(0)
    other.signal(signal.SIGKILL)
    other.wait()
    page.page.wait_for_selector(".panel .banner.error")
    assert page.banner().get_attribute("role") == "status"
    assert page.run("shmring.panels[0].end") == "died"
    assert "producer" in page.banner().inner_text()
    assert page.pixels()[0, 0, 0] == 9


def test_a_word_in_between_leaves_what_is_so_still(stream, show):
    ring, out = stream(np.array(["a", "b"], "U4"))
    page = show(ring.name).shows(0)
    out.close()
    page.wait("shmring.panels[0].end === 'closed'")
    said = page.banner().inner_text()
    page.run("shmring.panels[0].tell('info', 'There is no picture to save.', 50)")
    assert page.banner().inner_text() != said
    page.page.get_by_text(said).wait_for()


def test_an_error_of_one_frame_goes_with_the_next(stream, show):
    ring, out = stream(flat(1))
    page = show(ring.name).shows(0)
    page.run(
        """() => {
            const { view } = shmring.panels[0], show = view.show.bind(view);
            view.show = async (frame) => {
                if (frame.header.seq === 1) throw new Error("no memory");
                return show(frame);
            };
        }"""
    )
    out.put(flat(2))
    page.page.get_by_text("Frame 1 cannot be shown: no memory").wait_for()
    out.put(flat(3))
    page.shows(2)
    assert not page.banner().is_visible()


def test_a_producer_that_fails(stream, show):
    ring, out = stream(flat(5))
    page = show(ring.name).shows(0)
    out.close(error="the lens fell off")
    page.page.wait_for_selector(".panel .banner.error")
    assert "the lens fell off" in page.banner().inner_text()


def test_a_ring_that_is_replaced(stream, make, show):
    ring, out = stream(flat(5))
    page = show(ring.name, map="magma").shows(0)
    out.close()
    page.page.wait_for_selector(".panel[data-state=closed]")
    ring.unlink()
    follower = make(ring.name, shape=(12, 16), dtype="u2", slots=4)
    with follower.producer() as second:
        second.put(np.full((12, 16), 3, "u2"))
        page.page.get_by_text("next producer").wait_for()
        page.wait("shmring.panels[0].last?.full[0] === 12")
        assert "12 \N{MULTIPLICATION SIGN} 16 u2" in page.page.locator(".about").inner_text()
        assert page.view("map") == "magma"
        state = "shmring.panels[0].element.dataset.state"
        assert page.run(state) == "live"
        page.run("shmring.panels[0].update({ ...shmring.panels[0].ring, state: 'closed' })")  # an old list
        assert page.run(state) == "live"


@pytest.mark.parametrize("key", ["Space", "."])
def test_a_ring_of_others_waits_for_a_paused_panel(stream, make, show, key):
    ring, out = stream(flat(5))
    page = show(ring.name).shows(0)
    page.press("Space")
    page.heard()
    out.close()
    ring.unlink()
    follower = make(ring.name, shape=(100,), dtype="f4", slots=4)
    with follower.producer() as second:
        second.put(np.zeros(100, "f4"))
        page.page.get_by_text("continue to see them").wait_for()
        assert (page.pixels() == 5).all()
        assert page.run("shmring.panels[0].last.kind") == "image"
        page.press(key)
        page.wait("shmring.panels[0].last?.kind === 'signal'")
        assert page.view("plot.data[0].length") == 100
        assert not page.banner().is_visible()


def test_a_frame_of_the_ring_before_is_not_drawn_into_the_next_view(stream, show):
    ring, _ = stream(flat(5))
    page = show(ring.name).shows(0)
    page.run(
        """() => {
            const [panel] = shmring.panels;
            panel.next = { ...panel.view.frame, header: { ...panel.last, seq: 41 }, view: panel.view };
            panel.begin({ ...panel.schema, kind: "signal" });
            return panel.draw();
        }"""
    )
    assert page.run("shmring.panels[0].last") is None
    assert not page.banner().is_visible()


def test_a_ring_that_comes_later(name, make, show):
    page = show(name)
    page.page.wait_for_selector(".panel .banner:not([hidden])")
    assert "there is no ring" in page.banner().inner_text()
    ring = make(name, shape=(HEIGHT, WIDTH), dtype="u1")
    with ring.producer() as out:
        out.put(flat(4))
        assert page.shows(0).pixels()[0, 0, 0] == 4


def test_connections_come_back(stream, show):
    ring, out = stream(flat(1))
    page = show(ring.name).shows(0)
    page.run("shmring.panels[0].link.socket.close()")
    out.put(flat(2))
    assert page.shows(1).pixels()[0, 0, 0] == 2
    page.run("shmring.link.socket.close()")
    page.wait("shmring.link.socket.readyState === WebSocket.OPEN")
    assert page.page.locator("#link").inner_text() == ""


def test_a_server_that_was_restarted(browser, stream, folder):
    """The page says that its address is no longer valid, and does not only try again."""
    ring, _ = stream(flat(1))
    first = Server(ring.name)
    with contextlib.closing(browser.new_context()) as context:
        page = Page(context, first)
        page.page.goto(f"{first.base}?token={first.token}#ring={ring.name}")
        page.wait("globalThis.shmring?.known")
        page.shows(0)
        first.end()
        page.page.get_by_text("Connection lost").wait_for()
        second = Server(ring.name, port=first.port)
        page.page.get_by_text("Open the address that shmring view printed").wait_for()
        page.page.goto(f"{second.base}?token={second.token}#ring={ring.name}")
        page.wait("globalThis.shmring?.known")
        assert page.shows(0).page.locator("#link").inner_text() == ""
        second.end()


# ---- read-outs


def hover(page, x: float, y: float) -> None:
    """Point at the middle of a pixel of the frame."""
    at = page.run(
        """([x, y]) => {
            const { view } = shmring.panels[0];
            const box = view.canvas.getBoundingClientRect();
            const [right, down] = view.viewport.panelAt([x + 0.5, y + 0.5]);
            const ratio = view.canvas.width / box.width;
            return [box.left + right / ratio, box.top + down / ratio];
        }""",
        [x, y],
    )
    page.page.mouse.move(*at)


def readout(page, text: str) -> None:
    page.wait("shmring.panels[0].view.readout.textContent === argument", text)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f8", "c8"])
def test_the_pixel_under_the_pointer(stream, show, dtype):
    frame = (GENERATOR.random((600, 900)) * 200).astype(dtype)
    frame[301, 444] = 77 if dtype != "f8" else 1.25
    ring, _ = stream(frame, attrs={"unit": "volt"})
    page = show(ring.name).shows(0)
    hover(page, 444, 301)
    value = {"f8": "1.25", "c8": str(np.complex64(77))}.get(dtype, "77")
    readout(page, f"x 444  y 301  {value} volt")


def test_every_channel_is_read(stream, show):
    frame = GENERATOR.integers(0, 256, (HEIGHT, WIDTH, 4)).astype("u1")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    hover(page, 3, 5)
    readout(page, f"x 3  y 5  {', '.join(map(str, frame[5, 3]))}")


def test_the_pixel_under_the_cross(stream, show):
    ring, _ = stream(np.arange(HEIGHT * WIDTH, dtype="u2").reshape(HEIGHT, WIDTH))
    page = show(ring.name).shows(0)
    page.page.mouse.move(0, 0)
    page.press("Shift+ArrowRight")
    page.page.locator(".readout").wait_for()
    x, y = page.view("cursor")
    assert abs(x - WIDTH // 2) <= 1
    readout(page, f"x {x}  y {y}  {y * WIDTH + x}")
    page.press("Shift+ArrowUp")
    readout(page, f"x {x}  y {y - 1}  {(y - 1) * WIDTH + x}")


def test_line_profile(stream, show):
    frame = GENERATOR.integers(0, 4096, (HEIGHT, WIDTH)).astype("u2")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    page.press("l")
    page.wait("shmring.panels[0].view.profile.plot?.data?.[1].length === 40")
    distance, values = page.view("profile.plot.data.map((row) => [...row])")
    assert distance == list(range(WIDTH))
    assert values == frame[HEIGHT // 2].tolist()
    hover(page, 10, 3)
    page.page.mouse.down()
    hover(page, 10, 20)
    page.page.mouse.up()
    page.wait("shmring.panels[0].view.profile.plot.data[1].length === 18")
    assert page.view("profile.plot.data[1]") == frame[3:21, 10].tolist()


def test_line_profile_by_keys(stream, show):
    frame = GENERATOR.integers(0, 256, (HEIGHT, WIDTH)).astype("u1")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    page.page.mouse.move(0, 0)
    page.press("Shift+ArrowLeft", "l", "c", *["Shift+ArrowDown"] * 4)
    page.wait("shmring.panels[0].view.profile.plot?.data?.[1].length === 5")
    x, y = page.view("cursor")
    assert page.view("profile.plot.data[1]") == frame[y - 4 : y + 1, x].tolist()


def test_keys_follow_a_turned_picture(stream, show):
    ring, _ = stream(GENERATOR.integers(0, 256, (HEIGHT, WIDTH)).astype("u1"))
    page = show(ring.name).shows(0)
    page.page.mouse.move(0, 0)
    page.press("Shift+ArrowLeft", "r")
    x, y = page.view("cursor")
    page.press("Shift+ArrowDown")  # down on the screen is to the right in the frame
    assert page.view("cursor") == [x + 1, y]


def test_one_channel_at_a_time(stream, show):
    frame = GENERATOR.integers(0, 256, (5, HEIGHT, WIDTH)).astype("u1")
    axes = [{"name": "z", "type": "channel", "labels": list("abcde")}]
    axes += [{"name": name, "type": "space"} for name in "yx"]
    ring, _ = stream(frame, attrs={"axes": axes})
    page = show(ring.name).shows(0)
    assert np.array_equal(page.pixels()[..., 0], frame[0])
    page.page.get_by_label("Channel", exact=True).select_option("d")
    page.wait("shmring.panels[0].view.frame.values[0] === argument", int(frame[3, 0, 0]))
    assert np.array_equal(page.pixels()[..., 0], frame[3])
    assert "channel=3" in page.hash


@pytest.mark.parametrize("order", ["gray", "rgb", "bgr"])
def test_jpeg_for_slow_links(stream, show, order):
    pytest.importorskip("simplejpeg", reason="needs simplejpeg")
    frame = np.zeros((64, 96, len(order)) if order != "gray" else (64, 96), "u1")
    frame[:] = (250, 130, 10) if order != "gray" else 130
    ring, _ = stream(frame, attrs={"color": order})
    page = show(ring.name).shows(0)
    page.page.get_by_label("Transfer").select_option("JPEG, for slow links")
    page.wait("shmring.panels[0].last.encoding === 'jpeg'")
    expected = np.array([130] * 3 if order == "gray" else frame[0, 0][[order.index(one) for one in "rgb"]])
    assert np.abs(page.pixels().astype(int) - expected).max() < 6
    assert "JPEG" in page.page.locator(".status").inner_text()


def test_the_meta_of_a_frame(make, show):
    ring = make(shape=(HEIGHT, WIDTH), dtype="u1", meta=[("gain", "f4"), ("name", "S8")])
    with ring.producer() as out:
        out.put(flat(1), meta=(1.5, b"<lamp>"))
        page = show(ring.name).shows(0)
        rows = page.page.locator(".meta tr")
        assert [row.inner_text().split() for row in rows.all()] == [["gain", "1.5"], ["name", "<lamp>"]]


def test_levels_by_the_histogram(stream, show):
    frame = GENERATOR.integers(0, 256, (HEIGHT, WIDTH)).astype("u1")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    assert sum(page.run("shmring.panels[0].last.histogram")) == frame.size
    box = page.page.locator(".bars").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + 2, middle)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.page.mouse.up()
    low, high = page.view("range")
    assert (low, high) == (pytest.approx(128, abs=2), 255)
    assert page.view("mode") == "fixed"
    assert f"levels={low}%2C255" in page.hash
    page.page.get_by_label("Highest value shown").fill("200")
    page.press("Enter")
    assert page.view("range") == [low, 200]


@pytest.mark.parametrize("largest", [2**62 + 1, 123_456_789, 1 / 3 * 1e-9])
def test_levels_by_their_fields(stream, show, largest):
    """Whose numbers are short, but change only where somebody writes."""
    frame = np.linspace(-largest, largest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    ring, _ = stream(frame.astype("i8" if isinstance(largest, int) else "f8"))
    page = show(ring.name, levels="auto").shows(0)
    high = page.view("range")[1]
    field = page.page.get_by_label("Highest value shown")
    assert float(field.input_value()) == pytest.approx(high, rel=1e-3)
    assert field.evaluate("(field) => field.scrollWidth <= field.clientWidth")
    page.page.get_by_label("Lowest value shown").fill("0")
    page.press("Tab")
    assert page.view("range") == [0, high]


def test_contrast_by_shift_and_drag(stream, show):
    ring, _ = stream(GENERATOR.integers(0, 4096, (HEIGHT, WIDTH)).astype("u2"))
    page = show(ring.name, levels="1000,3000").shows(0)
    hover(page, 20, 12)
    page.page.keyboard.down("Shift")
    page.page.mouse.down()
    hover(page, 25, 12)
    page.page.mouse.up()
    page.page.keyboard.up("Shift")
    low, high = page.view("range")
    assert low + high == pytest.approx(4000, abs=2)
    assert high - low > 2100


def test_wheel_and_drag(stream, show):
    ring, _ = stream(GENERATOR.integers(0, 256, (400, 600)).astype("u1"))
    page = show(ring.name).shows(0)
    hover(page, 100, 50)
    page.page.mouse.wheel(0, -720)
    page.wait("shmring.panels[0].view.viewport.scale !== null")
    x, y = page.view("viewport.frameAt([0, 0])")
    under = "shmring.panels[0].view.cursor"
    assert page.run(under) == [100, 50]
    page.page.mouse.move(500, 400)
    page.page.mouse.down()
    page.page.mouse.move(460, 370)
    page.page.mouse.up()
    moved = page.view("viewport.frameAt([0, 0])")
    scale = page.view("viewport.scale")
    assert moved == pytest.approx([x + 40 / scale, y + 30 / scale], abs=1)
    page.press("0")
    assert page.view("viewport.scale") is None


def test_pinch(stream, open_page):
    ring, _ = stream(GENERATOR.integers(0, 256, (400, 600)).astype("u1"))
    page = open_page(ring.name, options={"has_touch": True}).shows(0)
    box = page.page.locator("canvas[tabindex]").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = page.view("viewport.scaleNow")
    touch = page.page.context.new_cdp_session(page.page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80)):
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait("Math.abs(shmring.panels[0].view.viewport.scaleNow / argument - 2) < 0.1", before)


# ---- signals and tables


def test_traces_and_spectrum(stream, show):
    rate, count = 1000.0, 2000
    time = np.arange(count) / rate
    samples = np.stack([np.sin(2 * np.pi * 100 * time), 3 + np.sin(2 * np.pi * 250 * time)]).astype("f4")
    axes = [
        {"name": "channel", "type": "channel", "labels": ["left", "right"]},
        {"name": "t", "type": "time", "unit": "second", "scale": 1 / rate},
    ]
    frames = [np.ascontiguousarray(samples[:, at : at + 100]) for at in range(0, count, 100)]
    ring, out = stream(frames[0], slots=len(frames), attrs={"axes": axes, "unit": "volt"})
    page = show(ring.name, seconds="1").shows(0)
    for frame in frames[1:]:
        out.put(frame)
    page.shows(len(frames) - 1)
    x, left, right = page.view("plot.data.map((row) => [...row])")
    assert x[0] == pytest.approx(-1, abs=0.01)
    assert max(x) <= 0
    newest = samples[:, -int(rate) :]
    assert [min(left), max(left), min(right), max(right)] == pytest.approx(
        [newest[0].min(), newest[0].max(), newest[1].min(), newest[1].max()], abs=1e-5
    )
    assert page.page.locator(".channels label").all_inner_texts() == ["left", "right"]
    page.press("f")
    page.wait("shmring.panels[0].view.fft.data")
    frequencies, *levels = page.view("fft.data.map((row) => [...row])")
    found = [frequencies[int(np.argmax(level[20:])) + 20] for level in levels]
    assert found == pytest.approx([100, 250], abs=2)
    page.page.get_by_label("left").uncheck()
    assert page.view("plot.plot.series[1].show") is False
    assert "hidden=0" in page.hash


def test_samples_of_an_unknown_rate_are_counted_back_from_the_newest(stream, show):
    ring, _ = stream(np.arange(20_000, dtype="f4"))
    page = show(ring.name).shows(0)
    assert page.view("frame.header.points") < 20_000
    x = page.view("plot.data[0]")
    assert [x[0], x[-1]] == pytest.approx([-20_000, 0], abs=100)


def test_samples_that_all_fit_are_joined_by_lines(stream, show):
    ring, _ = stream(np.array([1, 5, 2], "f4"))
    x, values = show(ring.name).shows(0).view("plot.data.map((row) => [...row])")
    assert [x, values] == [[-3, -2, -1], [1, 5, 2]]


def test_a_spectrum_that_there_cannot_be(stream, show):
    """A gap of frames that were lost, say."""
    samples = np.sin(np.arange(1000, dtype="f4"))
    ring, out = stream(samples)
    page = show(ring.name, spectrum="1").shows(0)
    note = page.page.locator(".spectrum .note")
    assert not note.is_visible()
    samples[500] = np.nan
    out.put(samples)
    page.shows(1)
    assert note.inner_text().startswith("No spectrum of channel 0: ")


def test_of_many_channels_some_are_shown(stream, show):
    axes = ["time", {"name": "electrode", "type": "channel"}]
    ring, _ = stream(np.zeros((10, 200), "f4"), attrs={"axes": axes})
    show(ring.name).shows(0).page.get_by_text("first 32 of 200 channels").wait_for()


def test_a_trace_beyond_float32(stream, show):
    ring, _ = stream(np.linspace(-1e300, 1e300, 1000))
    _, trace = show(ring.name).shows(0).view("plot.data.map((row) => [...row])")
    assert [min(trace), max(trace)] == [-1e300, 1e300]


def test_a_table(stream, show):
    frame = np.array([(1, 2.5, b"ab"), (2, -1.0, b"<b>")], [("n", "i4"), ("x", "f8"), ("s", "S4")])
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    table = page.page.locator("table.values")
    assert table.locator("th").all_inner_texts() == ["n", "x", "s"]
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    assert rows == [["1", "2.5", "ab"], ["2", "-1", "<b>"]]
    assert not page.page.locator("p.note").is_visible()


def test_records_in_records(stream, show):
    point = np.dtype([("x", "i2"), ("ok", "?")])
    frame = np.zeros(2, [("at", point), ("path", point, (2,))])
    ring, _ = stream(frame)
    cells = show(ring.name).shows(0).page.locator("table.values td").all_inner_texts()
    assert cells[:2] == ["{x: 0, ok: false}", "[{x: 0, ok: false}, {x: 0, ok: false}]"]


def test_a_long_table_says_what_it_leaves_out(stream, show):
    ring, _ = stream(np.zeros((300, 50), "S3"))
    note = show(ring.name).shows(0).page.locator("p.note")
    assert note.inner_text() == "The first 100 of 300 rows, and the first 32 of 50 columns."


def test_traffic(stream, show):
    ring, out = stream(flat(0))
    with ring.consumer(lossless=True, label="slow <recorder>") as frames:
        page = show(ring.name).shows(0)
        page.press("t")
        page.page.wait_for_selector(".consumers td")
        row = page.page.locator(".consumers tr", has_text="slow <recorder>")
        assert row.locator("td").nth(1).inner_text() == "lossless"
        assert str(os.getpid()) in page.page.locator(".producer").inner_text()
        assert page.page.locator(".charts canvas").count() == 5
        out.put(flat(1))
        page.wait("shmring.panels[0].ring.consumers.some((one) => one.lag === 1)")
        for frame in frames:
            del frame
            break


# ---- files


def test_record_and_stop(stream, show, folder):
    ring, out = stream(flat(1))
    page = show(ring.name).shows(0)
    page.page.wait_for_selector(".record:not([hidden])")
    page.press("Shift+R")
    name = page.page.get_by_label("File name")
    assert name.input_value().endswith(".npy")
    name.fill("take.npy")
    page.press("Enter")
    page.page.get_by_text("Recording take.npy: 1 frame").wait_for()
    for value in (2, 3):
        out.put(flat(value))
    page.page.get_by_text("Recording take.npy: 3 frames").wait_for()
    page.page.get_by_label("Stop recording").click()
    page.page.get_by_text("Recorded take.npy: 3 frames").wait_for()
    assert np.load(folder / "take.npy")[:, 0, 0].tolist() == [1, 2, 3]


def test_a_file_name_that_is_refused(stream, show):
    ring, _ = stream(flat(1))
    page = show(ring.name).shows(0)
    page.page.wait_for_selector(".record:not([hidden])")
    page.press("Shift+R")
    page.page.get_by_label("File name").fill("../take.npy")
    page.press("Enter")
    page.page.locator("p.recording.bad").wait_for()
    assert "plain file name" in page.page.locator("p.recording").inner_text()
