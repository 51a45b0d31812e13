"""`shmring demo` from the outside: what it prints, how it ends, and that nothing is left."""

from __future__ import annotations

import contextlib
import mmap
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring.__main__ import main
from shmring._demo import sources
from shmring._demo.children import Account
from shmring._demo.parent import JOBS
from shmring._demo.verdict import find_problems
from support.blocks import block_file
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

SMALL = ("--size", "64x48")
ENDLESS = (*SMALL, "--seconds", "3600", "--rate", "200")
ROLES = ("producer", "recorder", "viewer", "latest")


class Running:
    """A demo in a session of its own."""

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self.lines: list[str] = []

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read on until a line has the pattern in it."""
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line with {pattern!r}: {self.lines} {self.process.stderr.read()}")

    def streaming(self) -> Running:
        """Return when frames flow."""
        self.read_until(r"producer \d+ frames/s")
        return self

    def pid(self, role: str) -> int:
        (found,) = re.findall(rf"^  {role} +pid (\d+)", "".join(self.lines), re.MULTILINE)
        return int(found)

    def block(self) -> Path:
        return block_file(re.search(r"^  ring +(\S+), ", "".join(self.lines), re.MULTILINE)[1])

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit code and everything that was printed."""
        self.lines += self.process.stdout
        assert self.process.stderr.read() == ""
        code = self.process.wait(PATIENCE)
        assert not self.block().exists()
        return code, "".join(self.lines)

    def clean_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def start(command):
    """`start(*arguments)` starts a demo, which is ended with the test."""
    started = []

    def start(*arguments: str, **options) -> Running:
        started.append(Running(command("demo", *arguments, text=True, start_new_session=True, **options)))
        return started[-1]

    yield start
    for demo in started:
        demo.clean_up()


def test_verified(start):
    code, output = start(*SMALL, "--frames", "50").end()
    assert code == 0
    lines = output.splitlines()
    assert "64x48 RGB frames of 0.01 MB, drawn by the producer" in lines[0]
    assert "through a ring of 16 slots" in lines[0]
    assert lines[1].startswith("  ring      shmring-")
    assert [line.split()[0] for line in lines[2:6]] == list(ROLES)
    assert "VERIFIED: the recorder got all 50 frames, in order" in lines[-1]
    assert "in place and 0 by copy;" in lines[-1]


def test_lines_about_the_processes_fit_a_terminal():
    assert max(len(f"  {'':<8}  pid {1:<7}  {job}") for job in JOBS.values()) <= 80


@pytest.mark.stress
def test_live_rates(start):
    demo = start(*SMALL, "--seconds", "1.5")
    line = demo.read_until("GB/s [|]").string
    for role in ROLES[1:]:
        assert re.search(rf"[|] {role} [\d,]+/s lag \d+ lost [\d,]+ skipped [\d,]+", line)
    assert demo.end()[0] == 0


def test_default_size():
    source = sources.Drawn((720, 1280, 3))
    frames = source.frames()
    images = [np.zeros(source.shape, "u1") for _ in range(2)]
    for image in images:
        next(frames)(image)
    assert all(image.any() for image in images)
    assert not np.array_equal(*images)


@pytest.mark.stress
@pytest.mark.parametrize("role", ["producer", "viewer"])
def test_child_killed(start, role):
    demo = start(*ENDLESS).streaming()
    os.kill(demo.pid(role), signal.SIGKILL)
    code, output = demo.end()
    assert code == 1
    victim = f"he {role} (pid {demo.pid(role)}) was killed by SIGKILL"
    assert f"T{victim}." in output
    assert output.splitlines()[-1] == f"NOT VERIFIED: t{victim}."


@pytest.mark.stress
@pytest.mark.parametrize("whom", ["terminal", "parent"])
def test_ctrl_c(start, whom):
    demo = start(*ENDLESS).streaming()
    if whom == "terminal":
        os.killpg(demo.process.pid, signal.SIGINT)
    else:
        demo.process.send_signal(signal.SIGINT)
    code, output = demo.end()
    assert code == 130
    assert "Stopping (Ctrl-C)." in output
    assert "VERIFIED: the recorder got all" in output.splitlines()[-1]


def test_ctrl_c_before_the_first_frame(start):
    demo = start(*ENDLESS)
    demo.read_until("shmring demo")
    os.killpg(demo.process.pid, signal.SIGINT)
    code, output = demo.end()
    assert code == 130
    assert "Stopped by Ctrl-C" in output


@pytest.mark.stress
def test_ctrl_c_twice_waits_for_nobody(start):
    demo = start(*ENDLESS).streaming()
    os.kill(demo.pid("recorder"), signal.SIGSTOP)
    demo.process.send_signal(signal.SIGINT)
    demo.read_until("Stopping")
    demo.process.send_signal(signal.SIGINT)
    code, output = demo.end()
    assert code == 130
    assert "No verdict" in output.splitlines()[-1]


@pytest.mark.stress
def test_terminated(start):
    demo = start(*ENDLESS).streaming()
    demo.process.terminate()
    code, output = demo.end()
    assert code == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM" in output


@pytest.mark.stress
def test_killed(start):
    demo = start(*ENDLESS).streaming()
    demo.process.kill()
    assert demo.end()[0] == -signal.SIGKILL  # and its children have ended, quietly, and nothing is left


def delivered(ring: shmring.Ring, label: str) -> int:
    (consumer,) = (one for one in ring.stats().consumers if one.label == label)
    return consumer.delivered


def test_damaged_frame_is_found(start):
    """The viewer checks a frame after it has held it for a while: here somebody scribbles on it."""
    demo = start(*ENDLESS).streaming()
    with (
        shmring.Ring.attach(demo.block().name, readonly=True) as ring,
        demo.block().open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as memory,
    ):
        before = delivered(ring, "viewer")

        def scribbled_on_held_frames() -> bool:
            memory[-100_000:] = os.urandom(100_000)
            return delivered(ring, "viewer") >= before + 3

        wait_until(scribbled_on_held_frames)
    os.killpg(demo.process.pid, signal.SIGINT)  # as Ctrl-C in its terminal
    code, output = demo.end()
    assert code == 1
    assert re.search(r"NOT VERIFIED: .*\d frames? of the viewer without the right checksum", output)


@pytest.mark.stress
def test_terminal_with_rich(start):
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    demo = start(*SMALL, "--seconds", "1.5", stdout=theirs, env=environment)
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # the far end closed
        while data := os.read(ours, 65536):
            output += data
    os.close(ours)
    assert demo.process.wait() == 0
    assert re.search(rb"recorder +[\d,]+ +[\d,]+ +\d+\.\d\d", output)
    assert b"after 0." in output
    assert b"VERIFIED" in output


@pytest.mark.stress
def test_output_closed(start):
    """As with `shmring demo | head -1`."""
    demo = start(*ENDLESS)
    demo.read_until("  ring ")
    demo.process.stdout.close()
    assert demo.process.wait(PATIENCE) == 1
    assert demo.process.stderr.read() == ""
    assert not demo.block().exists()


# ---- what can contradict the producer

SENT = Account(frames=10, seconds=1, digest="a")


def accounts(**changed: Account) -> dict[str, Account]:
    whole = {
        "producer": SENT,
        "recorder": Account(frames=10, digest="a"),
        "viewer": Account(frames=4, lost=6),
        "latest": Account(frames=1, lost=2, skipped=7),
    }
    return {**whole, **changed}


def test_no_problem():
    assert find_problems(accounts()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"recorder": Account(frames=10, digest="b")}, "not the producer's"),
        ({"recorder": Account(frames=9, lost=1, digest="b")}, "got 9 of 10"),
        ({"recorder": Account(frames=10, digest="a", wrong=1)}, "1 frame of the recorder"),
        ({"viewer": Account(frames=4, lost=5)}, "the viewer accounts for 4 received"),
        ({"latest": Account(frames=1, wrong=1, skipped=9)}, "1 frame of the latest"),
        ({"producer": Account(), "recorder": Account()}, "not one frame"),
    ],
)
def test_problem(changed, words):
    assert words in "; ".join(find_problems(accounts(**changed)))


# ---- mistakes of the user


def refused(capsys, *arguments: str) -> str:
    """What the demo said on stderr, in one line, before it gave up with exit code 2."""
    try:
        code = main(["demo", *arguments])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("shmring")
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "12"], "write it as 1280x720"),
        (["--frames", "0"], "'0' is not a whole number, 1 or more"),
        (["--frames", "ten"], "'ten' is not a whole number"),
        (["--seconds", "-1"], "'-1' is not a number above 0"),
        (["--rate", "nan"], "'nan' is not a number above 0"),
        (["--slots", "1"], "2 or more"),
        (["--camera", "front"], "as in /dev/video0"),
        (["--camera", "1", "--video", "film.mp4"], "cannot be used together"),
        (["--film", "film.mp4"], "unrecognized arguments"),
    ],
)
def test_wrong_usage(capsys, arguments, words):
    assert words in refused(capsys, *arguments)


def test_missing_file(capsys):
    pytest.importorskip("av")
    assert "there is no file 'nowhere.mp4'" in refused(capsys, "--video", "nowhere.mp4")


def test_not_a_video(capsys):
    pytest.importorskip("av")
    assert "is it one?" in refused(capsys, "--video", __file__)


def test_no_camera(capsys, monkeypatch, tmp_path):
    pytest.importorskip("av")
    monkeypatch.setattr(sources, "DEVICES", tmp_path)
    assert "there is no camera here" in refused(capsys, "--camera", "0")
    (tmp_path / "video7").touch()
    assert "cameras here: 7" in refused(capsys, "--camera", "0")
    assert "cannot read" in refused(capsys, "--camera", "7")


def test_no_pyav(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert '--video needs PyAV: pip install "shmring[video]"' in refused(capsys, "--video", "x.mp4")
    assert 'pip install "shmring[video]"' in refused(capsys, "--camera", "0")


def test_no_space(capsys):
    assert "NoSpace" not in refused(capsys, "--size", "60000x60000", "--slots", "90")


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"shmring {shmring.__version__}\n"


def test_no_command(capsys):
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("Usage: shmring ")
