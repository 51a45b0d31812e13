"""What the commands share: signals, options that exclude each other, rates, and how figures are written."""

from __future__ import annotations

import dataclasses
import signal
import threading

import pytest

pytest.importorskip("click")

import click

from shmring._cli.support import options, output, rates, signals
from shmring._demo.show import LiveRows
from support.frames import feed


@pytest.fixture
def received() -> list[int]:
    return []


@pytest.fixture
def note(received):
    return lambda number, frame: received.append(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_handled_and_given_back(number, note, received) -> None:
    before = signal.getsignal(number)
    with signals.handled(note, number):
        signal.raise_signal(number)
    assert received == [number]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", signals.IGNORABLE)
def test_what_nohup_ignores_stays_ignored(number, note, received) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with signals.handled(note, *signals.ENDS):
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert received == []


def test_signals_are_left_alone_in_another_thread(note) -> None:
    """Python handles them in the main thread only, and refuses handlers elsewhere."""
    before, inside = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with signals.handled(note, signal.SIGTERM):
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert inside == [before]


@pytest.mark.parametrize("number", signals.IGNORABLE)
def test_an_end_by_signal_can_clean_up(number) -> None:
    with pytest.raises(SystemExit) as end, signals.ended_by_signals():
        signal.raise_signal(number)
    assert end.value.code == 128 + number


def test_children_do_not_get_the_signals_of_their_parent() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with signals.kept_from_children(signal.SIGINT, signal.SIGHUP):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert blocked == before | {signal.SIGINT, signal.SIGHUP}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize("given", [{}, {"pace": 2.0}, {"flat_out": True, "pace": None}])
def test_one_of_options_that_exclude_each_other(given) -> None:
    options.at_most_one(**given)


def test_two_of_options_that_exclude_each_other() -> None:
    with pytest.raises(click.UsageError, match="--flat-out and --pace cannot be used together"):
        options.at_most_one(flat_out=True, pace=0.5)


@pytest.mark.parametrize(
    ("number", "written"), [(0, "0 other files"), (1, "1 other file"), (2, "2 other files")]
)
def test_counts(number, written) -> None:
    assert output.count(number, "other file") == written


@pytest.mark.parametrize(
    ("nbytes", "seconds", "written"), [(0, 0, "0 B/s"), (3e9, 2, "1.5 GB/s"), (1e6, 1, "1.0 MB/s")]
)
def test_bandwidth(nbytes, seconds, written) -> None:
    assert output.bandwidth(nbytes, seconds) == written


def test_rates_between_two_looks(make) -> None:
    ring = make()
    with ring.producer(on_full="drop") as out, ring.consumer(label="recorder") as frames:
        before = ring.stats()
        feed(out, 3)
        frames.get().release()
        found = rates.between(before, ring.stats(), seconds=2.0)
    assert (found.published, found.dropped) == (1.5, 0)
    assert list(found.delivered.values()) == [0.5]


def test_live_rows_of_the_demo(make) -> None:
    """Nothing before the second look; and a consumer that has left is shown as it was last seen."""
    ring, live = make(), LiveRows(frame_nbytes=1000)
    with ring.producer() as out:
        assert live.look(ring.stats()) == []
        with ring.consumer(label="recorder") as frames:
            feed(out, 2)
            frames.get().release()
            assert live.look(ring.stats()) == []
        feed(out, 1)
        producer, recorder = live.look(ring.stats())
    assert producer[:2] == ("producer", "3")
    assert recorder[:3] == ("recorder", "1", "0")


def test_counters_that_go_back_are_no_rate(make) -> None:
    """Something overwrote them."""
    before = make().stats()
    after = dataclasses.replace(before, published=0)
    assert rates.between(dataclasses.replace(before, published=7), after, 1.0).published == 0
