"""shmring record, replay and capture: as a user starts them."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import pty
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest

import shmring
from shmring import recording
from support import peers
from support.blocks import fresh_name
from support.frames import feed, payload
from support.recordings import feed_seqs, need
from support.waiting import PATIENCE, wait_until

pytest.importorskip("click", reason="needs the extra cli")

pytestmark = pytest.mark.slow


@pytest.fixture
def command(command):
    """As everywhere, and what is said is text."""
    return functools.partial(command, text=True)


def end_of(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=3 * PATIENCE)
    return process.returncode, out, err


def run(*words) -> int:
    """Run a command in this process; its exit code."""
    from shmring._cli import app

    return app.run([str(word) for word in words])


def test_record_and_replay(make, command, tmp_path) -> None:
    """A ring that appears later is recorded to its end, and played to a consumer that joins."""
    name, path = fresh_name(), tmp_path / "take.npy"
    recorder = command("record", name, path, "--json")
    ring = make(name, shape=(100,), dtype="u1", slots=8)
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=3 * PATIENCE)
        feed_seqs(out, ring, 20)
    code, said, noise = end_of(recorder)
    assert (code, noise) == (0, "")
    summary = json.loads(said)
    assert (summary["frames"], summary["lost"], summary["ended"]) == (20, 0, "producer closed")
    assert summary["paths"] == [str(path)]
    again = fresh_name()
    player = command("replay", path, again, "--flat-out", "--wait-for", "1", "--loops", "2")
    with shmring.Ring.attach(again, timeout=3 * PATIENCE) as played, played.consumer() as frames:
        assert [int(frame.array[99]) for frame in frames] == [*range(20), *range(20)]
    assert end_of(player) == (0, "", "shmring replay: 40 frames\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_come_together_are_one(number, monkeypatch) -> None:
    """A later one ends at once, also what is being finished."""
    from shmring._cli.support import signals

    now, stopped = [1000.0], []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with signals.stopped_by_signals() as stopper:
        stopper.stop = lambda: stopped.append(True)
        for _ in range(3):
            signal.raise_signal(number)
        assert (stopped, stopper.code) == ([True], 128 + number)
        now[0] += signals.TOGETHER
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_recording_in_good_order(make, command, tmp_path, number) -> None:
    ring, path = make(slots=8), tmp_path / "take.npy"
    recorder = command("record", ring.name, path, "--roll-frames", "100")
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=3 * PATIENCE)
        feed(out, 120)
        wait_until(lambda: ring.stats().consumers[0].lag == 0)
        recorder.send_signal(number)
        code, _, noise = end_of(recorder)
    assert code == 128 + number
    assert noise.startswith("shmring record: stopped: 120 frames, ")
    assert "0 lost; in 2 files, the last one" in noise
    found = recording.open_recording(tmp_path / "take-0002.npy")
    assert (found.seqs.tolist(), found.ended) == (list(range(100, 120)), "stopped")


def test_a_signal_while_it_waits_for_the_ring(command, tmp_path) -> None:
    recorder = command("record", fresh_name(), tmp_path / "take.npy")
    signals_ready(recorder)
    recorder.send_signal(signal.SIGTERM)
    assert end_of(recorder) == (143, "", "")
    assert not list(tmp_path.iterdir())


def signals_ready(process) -> None:
    """Return when the process has its own handler for SIGTERM."""

    def caught() -> bool:
        with open(f"/proc/{process.pid}/status") as status:
            [mask] = [line.split()[1] for line in status if line.startswith("SigCgt")]
        return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)

    wait_until(caught, timeout=3 * PATIENCE)


def test_the_producer_dies(make, peer, tmp_path, capsys) -> None:
    ring = make(slots=8)
    producer = peer(ring)
    producer.run(peers.open_producer, 5)
    producer.kill()
    assert run("record", ring.name, tmp_path / "take.npy") == 1
    assert capsys.readouterr().err.startswith("shmring record: producer died: 5 frames, ")


def test_limits_and_files(make, tmp_path, capsys) -> None:
    ring = make(slots=16)
    with ring.producer() as out:
        feed(out, 10)
        path = tmp_path / "take.npy"
        assert run("record", ring.name, path, "--frames", 3) == 0
        assert "record: done: 3 frames (limit reached), " in capsys.readouterr().err
        assert run("record", ring.name, path, "--frames", 3) == 2
        said = "exists: choose another name, append to it (--append) or replace it (--overwrite)"
        assert said in capsys.readouterr().err
        assert run("record", ring.name, path, "--bytes", "8.2kB", "--append") == 0
        assert len(np.load(path)) == 5
        lossy = ["--seconds", 0.01, "--overwrite", "--lossy", "--start", "next"]
        assert run("record", ring.name, path, *lossy) == 0
        assert len(np.load(path)) == 0
        assert run("record", ring.name, path, "--roll-bytes", "8KiB", "--keep", 2, "--frames", 10) == 0
    assert [file.name for file in recording.pieces(path)] == ["take-0004.npy", "take-0005.npy"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["record", "NAME", "take.dat"], 2, "must end in one of .npy, .zarr, .h5, .hdf5"),
        (["record", "NAME", "take.npy", "--bytes", "7 apples"], 2, "is not a size; write it as 500MB"),
        (["record", "NAME", "no/folder/take.npy"], 2, "there is no folder no/folder: make it first"),
        (["record", "NAME", "take.h5", "--sync", "1"], 2, "sync is for .npy files"),
        (["record", "NAME", f"{'x' * 250}.npy"], 2, "File name too long"),
        (["capture", "NAME", "no/folder/take.npy", "--before", "2"], 2, "there is no folder no/folder"),
        (["capture", "NAME", "take.dat", "--before", "2"], 2, "must end in one of"),
        (["capture", "NAME", "take.npy", "--before", "2", "--append"], 2, "needs --captures or --forever"),
        (["record", "NAME", "take.npy", "--keep", "2"], 2, "--keep needs --roll-frames"),
        (["record", "NAME", "take.npy", "--append", "--overwrite"], 2, "cannot be used together"),
        (["record", "NAME", "take.npy", "--timeout", "0"], 3, "there is no ring"),
        (["replay", "missing.npy", "NAME"], 1, "there is no file missing.npy"),
        (["capture", "NAME", "take.npy"], 2, "--before"),
        (["capture", "NAME", "take.npy", "--before", "2", "--when", "1 +"], 2, "is not a Python expression"),
    ],
)
def test_mistakes(monkeypatch, tmp_path, capsys, words, code, told) -> None:
    """One line that says what to do; nothing is left. None is about a library that would not help."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert run(*(fresh_name() if word == "NAME" else word for word in words)) == code
    noise = capsys.readouterr().err
    assert told in noise
    assert noise.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["record"], ["capture", "--before", "2"]])
@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("take.npy", "take.npy"),
        ("take.json", "take.npy"),
        ("take.index.npy", "take.npy"),
        ("take.zarr", "take.zarr"),
        ("take.h5", "take.h5"),
    ],
)
def test_a_name_that_is_taken(monkeypatch, tmp_path, capsys, command, there, wanted) -> None:
    """It is said at once; here, the ring would never come."""
    need(os.path.splitext(wanted)[1])
    (tmp_path / there).write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert run(*command, fresh_name(), wanted, "--timeout", 0) == 2
    noise = capsys.readouterr().err
    assert there in "".join(noise.split())  # lines are broken anywhere
    assert ("--append" in noise) == (there == wanted and command == ["record"])
    assert [file.name for file in tmp_path.iterdir()] == [there]


@pytest.mark.parametrize(("suffix", "library"), [(".h5", "h5py"), (".zarr", "zarr")])
def test_a_missing_extra(monkeypatch, tmp_path, capsys, suffix, library) -> None:
    """What to install is said before anybody waits for a ring, and to those who read as well."""
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / f"take{suffix}"
    extra = "hdf5" if library == "h5py" else library
    said = f'{suffix} files need {library}: pip install "shmring[{extra}]"'
    assert run("record", fresh_name(), path, "--timeout", 0) == 2
    assert run("capture", fresh_name(), path, "--before", 1, "--timeout", 0) == 2
    path.touch()
    assert run("replay", path, fresh_name()) == 2
    assert capsys.readouterr().err.count(said) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_folder_that_may_not_be_written(tmp_path, fork) -> None:
    from shmring._cli import app  # noqa: F401 - that user may not read Python's files
    from shmring._cli.commands import capture, record  # noqa: F401 - that user may not read Python's files

    tmp_path.chmod(0o755)

    def as_nobody(send) -> None:
        os.chdir(tmp_path)  # as long as it may
        os.setuid(65534)
        send([run("record", fresh_name(), "take.npy"), run("capture", "x", "a.npy", "--before", "1")])

    assert fork(as_nobody).receive() == [2, 2]


@pytest.mark.parametrize("command", [["record"], ["capture", "--before", "1", "--when", "True"]])
def test_a_full_disk_is_one_line(make, monkeypatch, tmp_path, capsys, command) -> None:
    from shmring.recording.formats._growing import GrowingNpy

    def fail(self, rows, valid=None) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(GrowingNpy, "append", fail)
    ring = make(slots=16)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
        late = publish_when_joined(out, ring) if command[0] == "capture" else None
        code = run(command[0], ring.name, tmp_path / "take.npy", *command[1:])
        if late is not None:
            late.join()
    noise = capsys.readouterr().err
    assert code == 1
    assert noise.splitlines()[-1].startswith("shmring: the disk is full: ")
    assert "Traceback" not in noise


def test_a_broken_stderr(make, command, tmp_path) -> None:
    """The recording is made, and its exit code says so; a mistake is one as well."""
    ring = make(slots=16)
    with ring.producer() as out:
        feed(out, 3)
    for words, code in ((["record", ring.name, "take.npy"], 0), (["record", ring.name, "take.npy"], 2)):
        with open("/dev/full", "w") as full:
            assert command(*words, stderr=full, cwd=tmp_path).wait(PATIENCE) == code
    assert len(np.load(tmp_path / "take.npy")) == 3


def test_captures_that_go_on_behind_earlier_ones(make, tmp_path) -> None:
    ring = make(slots=16)
    with ring.producer() as out:
        feed(out, 3)
        assert run("record", ring.name, tmp_path / "take.npy", "--frames", 3, "--roll-frames", 2) == 0
        late = publish_when_joined(out, ring)
        again = ["--captures", 2, "--append", "--when", "seq in (4, 6)"]
        assert run("capture", ring.name, tmp_path / "take.npy", "--before", 2, *again) == 0
        late.join()
    assert recording.open_recording(tmp_path / "take-0004.npy").seqs.tolist() == [5, 6]


def test_capture_on_a_signal(make, command, tmp_path) -> None:
    ring = make(slots=32)
    with ring.producer() as out:
        capture = command(
            "capture", ring.name, tmp_path / "take.npy", "--before", 5, "--after", 2, "--captures", 2
        )
        armed = capture.stderr.readline()
        assert armed == (
            f"shmring capture: armed, pid {capture.pid}: captures at kill -USR1 {capture.pid}; Ctrl-C ends\n"
        )
        feed(out, 40)
        capture.send_signal(signal.SIGUSR1)
        wait_until((tmp_path / "take-0001.npy").exists, timeout=3 * PATIENCE)
        feed(out, 2)
        assert "capture: done: 7 frames, " in capture.stderr.readline()
        feed(out, 3)  # less than 5: what is saved already is not saved again
        capture.send_signal(signal.SIGUSR1)
        wait_until((tmp_path / "take-0002.npy").exists, timeout=3 * PATIENCE)
        out.close()
        code, _, noise = end_of(capture)
    assert (code, noise.startswith("shmring capture: producer closed: 3 frames")) == (0, True)
    assert recording.open_recording(tmp_path / "take-0001.npy").seqs.tolist() == list(range(35, 42))
    assert recording.open_recording(tmp_path / "take-0002.npy").seqs.tolist() == [42, 43, 44]


@pytest.mark.parametrize(("key", "code", "files"), [(b" ", 0, 1), (b"q", 1, 0)])
def test_capture_on_a_key(make, command, tmp_path, key, code, files) -> None:
    """Any key in the terminal triggers, q ends; the terminal is left as it was."""
    ring = make(slots=8)
    master, terminal = pty.openpty()
    try:
        capture = command("capture", ring.name, tmp_path / "take.npy", "--before", 2, stdin=terminal)
        with ring.producer() as out:
            assert "captures at any key or at kill" in capture.stderr.readline()
            feed(out, 3)
            os.write(master, key)
            assert end_of(capture)[0] == code
    finally:
        os.close(master)
        os.close(terminal)
    assert len(list(tmp_path.glob("*.json"))) == files


def test_capture_on_a_condition(make, tmp_path, capsys) -> None:
    ring = make(shape=(4,), dtype="u1", slots=16)
    with ring.producer() as out:
        feed_seqs(out, ring, 3)
        late = publish_when_joined(out, ring)
        when = ["--when", "np.max(array) == 5"]
        assert run("capture", ring.name, tmp_path / "take.npy", "--before", 2, *when) == 0
        late.join()
        assert run("capture", ring.name, tmp_path / "other.npy", "--before", 9) == 2
        assert "create it with 18 slots" in capsys.readouterr().err
    assert recording.open_recording(tmp_path / "take.npy").seqs.tolist() == [4, 5]


def publish_when_joined(out, ring):
    """Publish more when both consumers of a capture have joined."""

    def work() -> None:
        out.wait_for_consumers(2, timeout=PATIENCE)
        feed_seqs(out, ring, 5)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_progress_does_not_count_the_time_before_the_ring(make, monkeypatch, tmp_path) -> None:
    pytest.importorskip("rich")
    from shmring._cli.commands.record import Progress

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    said = []
    ring = make()
    ring.producer().close()
    recorder = recording.Recorder(ring, tmp_path / "take.npy", seconds=100.0)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now - 1000)  # it was started long ago
    with Progress(False, None, 100.0, None) as line:
        monkeypatch.setattr(time, "monotonic", lambda: now)
        monkeypatch.setattr(line, "draw", lambda text, share: said.append((text, share)))
        line.show(recorder)
        monkeypatch.undo()
    recorder.run()
    ((text, share),) = said
    assert "  0 s  " in text
    assert share < 0.01


def test_progress_on_a_terminal_that_goes_away(monkeypatch) -> None:
    """What is shown must not end what it shows."""
    pytest.importorskip("rich")
    from shmring._cli.support.progress import ProgressLine

    def fail(*words, **options) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressLine(quiet=False, first="") as line:
        line._display.stop()
        monkeypatch.setattr(line._display, "update", fail)
        monkeypatch.setattr(line._display, "stop", fail)
        line.draw("half of it", 0.5)


TERMINAL = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}


def test_progress_on_a_terminal(make, command, tmp_path) -> None:
    """Frames, size, rate and lag are shown where somebody looks."""
    ring = make(slots=8)
    master, terminal = pty.openpty()
    seen = b""
    recorder = command(
        "record", ring.name, tmp_path / "take.npy", "--frames", 50, stderr=terminal, env=TERMINAL
    )
    os.close(terminal)
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=3 * PATIENCE)
        feed(out, 40)
        while b"40 frames" not in seen:
            seen += os.read(master, 4096)
        feed(out, 10)
        assert recorder.wait(3 * PATIENCE) == 0
    os.close(master)
    assert b"lag 0" in seen
    assert b"163.8 kB" in seen or b"164 kB" in seen


def test_replay_shows_how_far_it_is(make, command, tmp_path) -> None:
    ring = make(slots=64)
    with ring.producer() as out:
        for number in range(40):
            out.put(payload(number), timestamp_ns=number * 10**7)
    recording.record(ring, tmp_path / "take.npy")
    seen = on_terminal(command, "replay", tmp_path / "take.npy", fresh_name())
    shares = [int(part) for part in re.findall(rb"(\d+) frames  [\d.,]+/s", seen)]
    assert shares  # the last frame is due long after the first report
    assert shares == sorted(shares)
    assert b"shmring replay: 40 frames" in seen


def test_quiet_replay_shows_nothing_on_the_way(make, command, tmp_path) -> None:
    ring = make()
    with ring.producer() as out:
        out.put(payload(0))
    recording.record(ring, tmp_path / "take.npy")
    seen = on_terminal(command, "replay", tmp_path / "take.npy", fresh_name(), "--quiet")
    assert seen == b"shmring replay: 1 frame\r\n"


def on_terminal(command, *words) -> bytes:
    """What a command that succeeds writes on a terminal."""
    ours, terminal = pty.openpty()
    process = command(*words, stderr=terminal, env=TERMINAL)
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):  # the far end closed
        while data := os.read(ours, 4096):
            seen += data
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    return seen


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_record_compressed(make, tmp_path, capsys, codec) -> None:
    need(".zarr")
    ring, path = make(shape=(300, 300), dtype="u1", slots=8), tmp_path / "take.zarr"
    with ring.producer() as out:
        feed_seqs(out, ring, 6)
    assert run("record", ring.name, path, "--codec", codec, "--timeout", "0", "--quiet") == 0
    with recording.open_recording(path) as found:
        assert [int(frame.array[0, 0]) for frame in found] == list(range(6))
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 6 * ring.frame_nbytes
    capsys.readouterr()
    for words, said in [
        (["record", ring.name, tmp_path / "take.npy", "--codec", codec], "codec is for .zarr, .h5 and .hdf5"),
        (["record", ring.name, tmp_path / "no.zarr", "--codec", "gzip"], "lz4"),
        (["capture", ring.name, tmp_path / "take.npy", "--before", "2", "--codec", codec], "codec is for"),
    ]:
        assert run(*words) == 2
        assert said in " ".join(capsys.readouterr().err.split())
