"""`shmring top`: what its screen shows, its keys, narrow and wide, rings that come and go."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading

import pytest

pytest.importorskip("textual")

from textual.events import Key
from textual.widgets import DataTable, Input, Sparkline, Static

from shmring import _inventory
from shmring._cli.support import top_screen
from shmring._cli.support.rates import Meter, ring_key
from shmring._cli.support.top_model import SORT_KEYS, Model
from shmring._cli.support.top_screen import Top, bar, sparks
from support import peers
from support.blocks import block_file, fresh_name
from support.frames import drain, feed
from support.screens import NARROW, WIDE, columns, shown, watch
from support.waiting import PATIENCE, task_state, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def only_mine(monkeypatch):
    """Whatever else happens in /dev/shm at the same time is not on the screen."""

    def look_at_all() -> list[_inventory.Found]:
        prefix = f"shmring-test-{os.getpid()}-"
        return [one for one in _inventory.look_at_all() if one.name.startswith(prefix)]

    monkeypatch.setattr(top_screen, "look_at_all", look_at_all)


@pytest.fixture(autouse=True)
def quick_waits(monkeypatch):
    """Textual's pilot waits until the application was idle for this long: by default 20 ms, twice a key."""
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.005, raising=False)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.00025, raising=False)


def text(app: Top, widget: str) -> str:
    static = app.query_one(widget, Static)
    return str(static.content if hasattr(static, "content") else static.renderable)  # Textual 1's name of it


def test_rings_and_consumers(make):
    fast, slow = make(slots=8), make(slots=8)
    with fast.producer() as out, slow.producer(), fast.consumer(label="recorder") as recorder:

        async def script(app, pilot, look) -> None:
            feed(out, 6)
            await look()
            rows = shown(app, "#rings")
            assert [row[0] for row in rows] == [fast.name, slow.name]
            row = dict(zip(columns(app, "#rings"), rows[0], strict=True))
            assert (row["STATE"], row["LAG"], row["LOST"], row["CONS"]) == ("live", "6", "0", "1")
            assert row["FILL"].endswith("75%")
            assert row["RATE"] != "0/s"
            assert str(os.getpid()) in row["PRODUCER"]
            (consumer,) = shown(app, "#consumers")
            row = dict(zip(columns(app, "#consumers"), consumer, strict=True))
            assert (row["LABEL"], row["POLICY"], row["LAG"], row["HELD"]) == (
                "recorder",
                "lossless",
                "6",
                "0",
            )
            assert app.query_one("#history", Sparkline).data[-1] > 0
            assert "2 rings" in text(app, "#summary")
            assert f"{fast.name}  live  512 uint64  8 slots" in text(app, "#title")
            drain(recorder)
            await look()
            assert shown(app, "#rings")[0][4].endswith(" 0%")

        watch(script)


def test_losses_show(make):
    ring = make(slots=4)
    with ring.producer() as out, ring.consumer(lossless=False, label="viewer") as viewer:
        feed(out, 1)
        viewer.get().release()

        async def script(app, pilot, look) -> None:
            feed(out, 20)
            viewer.get().release()
            await look()
            row = dict(zip(columns(app, "#consumers"), shown(app, "#consumers")[0], strict=True))
            assert row["LOST"] == "16"
            assert row["LOST/s"] != "0/s"
            assert dict(zip(columns(app, "#rings"), shown(app, "#rings")[0], strict=True))["LOST"] == "16"

        watch(script)


@pytest.mark.parametrize(
    "size", [pytest.param(NARROW, marks=pytest.mark.stress), WIDE], ids=["narrow", "wide"]
)
def test_groups(make, peer, size):
    """A group in the title, its name in the rows of its members; it fills the ring as a whole."""
    ring = make(slots=8)
    other = peer(ring)
    other.run(peers.open_consumer, label="m0", group="pool", at_most_once=True)
    with ring.producer() as out, ring.consumer(label="m1", group="pool", at_most_once=True) as member:

        async def script(app, pilot, look) -> None:
            feed(out, 8)
            other.run(peers.hold, 2)
            held = [member.get(0) for _ in range(3)]
            await look()
            for row, (label, count) in zip(shown(app, "#consumers"), (("m0", "2"), ("m1", "3")), strict=True):
                cells = dict(zip(columns(app, "#consumers"), row, strict=True))
                assert (cells["LABEL"], cells["POLICY"], cells["LAG"], cells["HELD"]) == (
                    label,
                    "group pool",
                    "3",
                    count,
                )
            words = text(app, "#title")
            assert "group pool: 2 members, at most once, lag 3, 0 redelivered, 0 lost" in words
            assert f"full: waits for group pool (pid {other.pid}, {os.getpid()})" in words
            row = dict(zip(columns(app, "#rings"), shown(app, "#rings")[0], strict=True))
            assert (row["FILL"].endswith("100%"), row["LAG"], row["LOST"]) == (True, "3", "0")
            other.kill()
            held.clear()
            drain(member)
            await look()
            assert "group pool: 1 member, at most once, lag 0, 0 redelivered, 2 lost" in text(app, "#title")
            row = dict(zip(columns(app, "#rings"), shown(app, "#rings")[0], strict=True))
            assert row["LOST"] == "2"
            if size == WIDE:
                assert row["LOST/s"] != "0/s"

        watch(script, size=size)


@pytest.mark.stress
def test_narrow_and_wide(make):
    make()

    async def script(app, pilot, look) -> None:
        assert columns(app, "#rings") == list(top_screen.RINGS_NARROW)
        assert columns(app, "#consumers") == list(top_screen.CONSUMERS_NARROW)
        (row,) = shown(app, "#rings")
        assert len(row) == len(top_screen.RINGS_NARROW)
        await pilot.resize_terminal(*WIDE)
        await pilot.pause()
        assert columns(app, "#rings") == list(top_screen.RINGS)
        await pilot.resize_terminal(*NARROW)
        await pilot.pause()
        assert columns(app, "#rings") == list(top_screen.RINGS_NARROW)
        await pilot.resize_terminal(20, 5)
        await pilot.pause()

    watch(script, size=NARROW)


def test_narrow_rows_fit(make):
    """Nothing of the table of rings is beyond the right edge of 80 columns."""
    make()

    async def script(app, pilot, look) -> None:
        table = app.query_one("#rings", DataTable)
        assert table.virtual_size.width <= NARROW[0]

    watch(script, size=NARROW)


def test_a_ring_without_a_producer_says_so(make):
    """In words too: on a narrow terminal, and where colours are off."""
    idle, closed = make(), make()
    closed.producer().close()

    async def script(app, pilot, look) -> None:
        assert sorted(row[1] for row in shown(app, "#rings")) == ["-", "closed"]
        closed.close()
        idle.close()
        await look()
        assert {row[1] for row in shown(app, "#rings")} == {"stale"}

    watch(script, size=NARROW)


def test_sort_and_reverse(make):
    names = sorted(make().name for _ in range(3))

    async def script(app, pilot, look) -> None:
        for key in [*list(SORT_KEYS)[1:], next(iter(SORT_KEYS))]:
            await pilot.press("s")
            assert app.sorted_by == key
            if key == "name":
                assert [row[0] for row in shown(app, "#rings")] == names
                await pilot.press("r")
                assert [row[0] for row in shown(app, "#rings")] == names[::-1]
                assert "by name ▼" in text(app, "#summary")

    watch(script)


def test_cursor_chooses_the_ring(make):
    first, second = sorted((make(), make()), key=lambda ring: ring.name)
    with second.consumer(label="of the second"):

        async def script(app, pilot, look) -> None:
            assert shown(app, "#consumers") == []
            assert first.name in text(app, "#title")
            await pilot.press("down")
            await pilot.pause()
            assert second.name in text(app, "#title")
            assert shown(app, "#consumers")[0][0] == "of the second"
            await look()
            assert second.name in text(app, "#title")

        watch(script)


@pytest.mark.parametrize(
    "alone", [pytest.param(False, marks=pytest.mark.stress), True], ids=["below-rings", "alone"]
)
def test_more_consumers_than_lines_scroll(make, alone):
    ring = make(consumers=64)
    consumers = [ring.consumer(lossless=False, label=f"viewer-{number}") for number in range(40)]

    async def script(app, pilot, look):
        table = app.query_one("#consumers", DataTable)
        assert 4 < table.size.height < 24
        assert table.region.bottom <= 23  # all of it is above the footer
        table.focus()
        await pilot.press("end" if alone else "pagedown", "down")
        await pilot.pause()
        scrolled = table.scroll_offset.y
        assert scrolled > 0
        await look()
        assert table.scroll_offset.y == scrolled  # a new look does not move it

    watch(script, ring.name if alone else None, NARROW)
    for consumer in consumers:
        consumer.close()


@pytest.mark.stress
def test_pause(make):
    ring = make()
    with ring.producer() as out:

        async def script(app, pilot, look) -> None:
            await pilot.press("p")
            assert "PAUSED" in text(app, "#summary")
            feed(out, 2)
            await look()
            assert "published 0 " in text(app, "#title")
            await pilot.press("space")
            await app.workers.wait_for_complete()
            await pilot.pause()
            assert "published 2 " in text(app, "#title")
            assert "PAUSED" not in text(app, "#summary")

        watch(script)


@pytest.mark.stress
def test_help(make):
    """Every column and key that needs it is explained on the screen, too; any key of help leads back."""
    make()

    async def script(app, pilot, look) -> None:
        for key in ("question_mark", "h", "f1"):
            assert not app.query_one("#help").display
            await pilot.press(key)
            await pilot.pause()
            assert app.query_one("#help").display
            assert not app.query_one("#rings").display
            words = text(app, "#help")
            assert all(word in words for word in ("FILL", "PAST LAG", "up, down", "tab ", "?, h, F1", "quit"))
            assert "\b" not in words
            await pilot.press("escape" if key == "h" else key)
            await pilot.pause()

    watch(script, size=NARROW)


def test_filter_by_name(make):
    first, second = make(), make(f"{fresh_name()}-Srpqx h?")

    async def script(app, pilot, look) -> None:
        for key, letter in (("slash", "/"), *zip("-srpqx", "-srpqx", strict=True)):
            app.post_message(Key(key, letter))  # all at once, as in a paste
        await pilot.press("space", *"h?")
        await pilot.pause()
        assert app.query_one("#filter", Input).value == "-srpqx h?"  # they are letters here, no keys
        assert [row[0] for row in shown(app, "#rings")] == [second.name]
        assert "1 of 2 rings" in text(app, "#summary")
        await pilot.press("enter")
        await look()
        assert not app.query_one("#filter").display
        assert [row[0] for row in shown(app, "#rings")] == [second.name]
        assert second.name in text(app, "#title")
        await pilot.press("slash", "z")
        await pilot.pause()
        assert shown(app, "#rings") == []
        assert text(app, "#title").startswith("No ring is shown")
        await pilot.press("escape")
        await pilot.pause()
        assert {row[0] for row in shown(app, "#rings")} == {first.name, second.name}
        await pilot.press("s")
        assert app.sorted_by != "rate"  # keys are keys again

    watch(script)


def test_other_files_are_counted(make):
    ring = make()
    others = [block_file(fresh_name()) for _ in range(2)]
    for path in others:
        path.write_bytes(b"a semaphore")

    async def script(app, pilot, look) -> None:
        assert [row[0] for row in shown(app, "#rings")] == [ring.name]
        assert "2 other files" in text(app, "#summary")

    try:
        watch(script)
    finally:
        for path in others:
            path.unlink()


def test_stale_rings_are_hidden(make):
    live, stale = make(), make()
    stale.close()

    async def script(app, pilot, look) -> None:
        await pilot.press("x")
        assert [row[0] for row in shown(app, "#rings")] == [live.name]
        assert "2 rings (1 stale hidden)" in text(app, "#summary")
        await look()
        assert [row[0] for row in shown(app, "#rings")] == [live.name]
        await pilot.press("x")
        assert len(shown(app, "#rings")) == 2

    watch(script)


@pytest.mark.stress
def test_keys_of_several_rings_do_nothing_for_one(make):
    ring = make()

    async def script(app, pilot, look) -> None:
        await pilot.press("slash", "x", "s", "r", "escape", "h", "escape")
        assert f"{ring.name}  live" in text(app, "#title")

    watch(script, ring.name)


def test_who_is_stopped_is_marked_on_80_columns(make, peer):
    """That is what people look for in a full ring."""
    pytest.importorskip("psutil")
    ring = make()
    consumer, producer = peer(ring), peer(ring)
    consumer.run(peers.open_consumer, label="stuck")
    producer.run(peers.open_producer)
    stopped = [consumer.pid, producer.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        for pid in stopped:
            wait_until(lambda pid=pid: task_state(pid) == "T")

        async def script(app, pilot, look) -> None:
            row = dict(zip(columns(app, "#consumers"), shown(app, "#consumers")[0], strict=True))
            assert row["RATE"] == "stopped"
            row = dict(zip(columns(app, "#rings"), shown(app, "#rings")[0], strict=True))
            assert row["RATE"] == "stopped"
            for table in ("#rings", "#consumers"):
                assert app.query_one(table, DataTable).virtual_size.width <= NARROW[0]

        watch(script, size=NARROW)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_dead_consumers_are_marked(make, peer):
    ring = make()
    other = peer(ring)
    other.run(peers.open_consumer, label="gone")
    other.kill()

    async def script(app, pilot, look) -> None:
        row = dict(zip(columns(app, "#consumers"), shown(app, "#consumers")[0], strict=True))
        assert (row["RATE"], row["PID"]) == ("dead", str(other.pid))

    watch(script, size=NARROW)


@pytest.mark.stress
def test_many_rings_and_consumers_on_24_lines(make):
    """Rings are what the screen is for: the consumers of one leave room for them."""
    rings = [make(shape=(), dtype="u1", slots=2, consumers=20) for _ in range(42)]
    first = min(rings, key=lambda ring: ring.name)
    with contextlib.ExitStack() as stack:
        for number in range(20):
            stack.enter_context(first.consumer(lossless=False, label=f"viewer-{number}"))

        async def script(app, pilot, look) -> None:
            assert app.query_one("#rings", DataTable).size.height - 1 >= 8
            assert app.query_one("#consumers", DataTable).size.height - 1 >= 4
            assert not app.query_one("#history").display
            await pilot.resize_terminal(80, 50)
            await pilot.pause()
            assert app.query_one("#history").display

        watch(script, size=NARROW)


@pytest.mark.stress
def test_one_look_at_a_time(make, monkeypatch):
    """However slow a look is, the next one begins when it has ended: two could end in the wrong order."""
    make()
    look_at_all = top_screen.look_at_all
    begun, go_on = [], threading.Event()

    def slow_look() -> list[_inventory.Found]:
        begun.append(None)
        assert go_on.wait(PATIENCE)
        return look_at_all()

    async def script(app, pilot, look) -> None:
        monkeypatch.setattr(top_screen, "look_at_all", slow_look)
        app.look()
        app.look()
        await pilot.press("p", "p")
        go_on.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert len(begun) == 1
        await look()
        assert len(begun) == 2

    watch(script)


def test_rings_come_and_go(make):
    async def script(app, pilot, look) -> None:
        assert shown(app, "#rings") == []
        assert text(app, "#title") == "No rings."
        ring = make()
        await look()
        assert shown(app, "#rings")[0][0] == ring.name
        ring.unlink()
        await look()
        assert shown(app, "#rings") == []

    watch(script)


def test_one_ring_alone(make, name):
    ring = make(name)

    async def script(app, pilot, look) -> None:
        assert not app.query("#rings")
        assert f"{name}  live" in text(app, "#title")
        ring.unlink()
        await look()
        assert "waiting for it" in text(app, "#title")
        again = make(name, slots=32)
        await look()
        assert f"{again.slots} slots" in text(app, "#title")

    watch(script, name)


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("ctrl+c", 130)])
def test_quit(make, key, code):
    async def script(app, pilot, look) -> None:
        await pilot.press(key)

    assert watch(script).return_value == code


def later(found, nanoseconds: int, **counters: int):
    """A look at the same ring at another time."""
    stats = dataclasses.replace(
        found.ring.stats, published=found.ring.stats.published + counters.get("published", 0)
    )
    consumers = [
        dataclasses.replace(one, delivered=one.delivered + counters.get("delivered", 0))
        for one in stats.consumers
    ]
    stats = dataclasses.replace(stats, consumers=tuple(consumers))
    ring = dataclasses.replace(found.ring, stats=stats, time_ns=found.ring.time_ns + nanoseconds)
    return dataclasses.replace(found, ring=ring)


def test_looks_in_the_wrong_order_change_nothing(make):
    ring = make()
    with ring.consumer():
        first = _inventory.look(ring.name)
    newer, older = later(first, 10**9, published=500, delivered=400), later(first, 10**8, published=50)
    meter, model, key = Meter(), Model(), ring_key(first)
    assert meter.update([first]) == {}
    model.update([first])
    for looks in ([newer], [older], [newer]):
        (rates,) = meter.update(looks).values()
        assert (rates.published, *rates.delivered.values()) == (500, 400)
        model.update(looks)
        line = model.lines[key]
        assert (line.rate, line.ring.stats.published, list(line.history)[-1]) == (500, 500, 500)
    (rates,) = meter.update([later(newer, 2 * 10**9, published=100)]).values()
    assert rates.published == 50


def test_counters_that_were_overwritten_give_no_negative_rates(make):
    ring = make()
    with ring.consumer():
        first = _inventory.look(ring.name)
    meter = Meter()
    meter.update([first])
    (rates,) = meter.update([later(first, 10**9, published=-(10**12), delivered=-(10**12))]).values()
    assert (rates.published, rates.dropped, *rates.lost.values(), *rates.delivered.values()) == (0, 0, 0, 0)


def test_history_is_remembered(make):
    ring = make()
    model = Model()
    with ring.producer(on_full="drop") as out:
        for count in range(5):
            feed(out, count)
            model.update([_inventory.look(ring.name)])
        (line,) = model.lines.values()
        assert len(line.history) == 4
        assert all(rate > 0 for rate in line.history)
    ring.unlink()
    model.update([])
    assert not model.lines


def test_bars_and_sparks():
    assert str(bar(0.0, 4)) == "····   0%"
    assert str(bar(0.5, 4)) == "██··  50%"
    assert str(bar(7.0, 4)) == "████ 100%"
    assert sparks([], 5) == ""
    assert sparks([0, 1, 2], 5) == "▁▅█"
    assert sparks([5, 5, 1, 2], 2) == "▅█"
    assert sparks([0.5], 2, most=1.0) == "▅"


@pytest.fixture
def start_top(command):
    """`start_top(name, terminal)` starts it on a terminal; with `fresh=True` as a user does it."""

    def start(name: str, terminal: int, *, fresh: bool = False, **environment: str) -> subprocess.Popen:
        return command(
            "top",
            name,
            fresh=fresh,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )

    return start


@pytest.mark.stress
def test_ends_with_its_terminal(make, start_top):
    """It does not stay behind, busy, when the terminal is closed."""
    ring = make()
    ours, theirs = pty.openpty()
    process = start_top(ring.name, theirs)
    os.close(theirs)
    try:
        said = b""
        while f"{ring.name}".encode() not in said:
            said += os.read(ours, 65536)
        os.close(ours)
        assert process.wait(PATIENCE) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()


@pytest.mark.stress
def test_in_the_locale_c(make, start_top):
    """Bars are bars: the terminal knows UTF-8 though the locale does not say so."""
    ring = make()
    ours, theirs = pty.openpty()
    process = start_top(ring.name, theirs, fresh=True, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    os.close(theirs)
    try:
        said = b""
        while "▁".encode() not in said:
            assert b"\\u2581" not in said
            said += os.read(ours, 65536)
        os.write(ours, b"q")
        with contextlib.suppress(OSError):  # the far end closed
            while os.read(ours, 65536):
                pass
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(
    "end",
    ["q", *(pytest.param(number, marks=pytest.mark.stress) for number in (signal.SIGTERM, signal.SIGINT))],
)
def test_on_a_real_terminal(make, start_top, end):
    """The screen is drawn, and the terminal is left as it was found."""
    ring = make()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    settings = termios.tcgetattr(theirs)
    process = start_top(ring.name, theirs)
    said = b""
    try:
        while f"{ring.name}  live".encode() not in said:
            said += os.read(ours, 65536)
        if end == "q":
            os.write(ours, b"q")
        else:
            process.send_signal(end)
        os.set_blocking(ours, False)

        def ended() -> bool:
            nonlocal said
            with contextlib.suppress(BlockingIOError):
                said += os.read(ours, 65536)
            return process.poll() is not None

        wait_until(ended)
        with contextlib.suppress(BlockingIOError):
            said += os.read(ours, 65536)
        assert process.returncode == (0 if end == "q" else 128 + end)
        assert b"Traceback" not in said
        assert said.rfind(b"\x1b[?1049l") > said.rfind(b"\x1b[?1049h") >= 0  # back to the main screen
        assert termios.tcgetattr(theirs) == settings
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
