"""Fault injection and soak (tests/provers/faults), in short; and that they would find what they look for."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from faults import children, faults
from faults.frames import WORDS, Books, Label, ViolationError, check, write

HERE = Path(faults.__file__).parent
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---- the frames and the books


def frame_of(label: Label) -> np.ndarray:
    frame = np.zeros(WORDS, "u8")
    write(frame, label)
    return frame


def test_a_whole_frame_passes():
    label = Label(7, 1, 6, 1)
    assert check(frame_of(label), 7) == label


@pytest.mark.parametrize("word", [0, 1, 3, 4, WORDS // 2, WORDS - 2, WORDS - 1])
def test_no_changed_word_passes(word):
    frame = frame_of(Label(7, 1, 6, 1))
    frame[word] += 1
    with pytest.raises(ViolationError):
        check(frame, 7)


def test_a_frame_of_two_halves_does_not_pass():
    frame, other = frame_of(Label(7, 1, 6, 1)), frame_of(Label(8, 1, 7, 1))
    frame[WORDS // 2 :] = other[WORDS // 2 :]
    with pytest.raises(ViolationError):
        check(frame, 7)


class Taken(SimpleNamespace):
    """What Books looks at of a frame and of its consumer."""

    @classmethod
    def frame(cls, label: Label, lost: int = 0):
        return cls(array=frame_of(label), seq=label.seq, lost=lost)


def books(*, lossless: bool = True, delivered: int = 1, lost: int = 0, skipped: int = 0) -> Books:
    """Books of a consumer that has the frame of seq 5 and says this of itself afterwards."""
    consumer = SimpleNamespace(lossless=lossless, delivered=1, lost=0, skipped=0)
    found = Books(consumer)
    found.enter(Taken.frame(Label(5, 1, 5, 0)))
    consumer.delivered, consumer.lost, consumer.skipped = delivered, lost, skipped
    return found


def test_the_next_frame_passes():
    books(delivered=2).enter(Taken.frame(Label(6, 1, 6, 0)))
    books(delivered=2, lost=1).enter(Taken.frame(Label(7, 1, 6, 1), lost=1))  # dropped at the source
    books(lossless=False, delivered=2, lost=1).enter(Taken.frame(Label(7, 1, 7, 0), lost=1))  # lapped
    books(delivered=2, skipped=3).enter(Taken.frame(Label(9, 1, 9, 0)))  # latest
    books(delivered=2, lost=2).enter(Taken.frame(Label(8, 2, 0, 0), lost=2))  # a takeover


@pytest.mark.parametrize(
    ("says", "label", "lost"),
    [
        ({"delivered": 2}, Label(5, 1, 5, 0), 0),  # again
        ({"delivered": 2}, Label(4, 1, 4, 0), 0),  # backwards
        ({"delivered": 2, "lost": 1}, Label(7, 1, 7, 0), 1),  # lost by a lossless consumer
        ({"delivered": 2}, Label(7, 1, 6, 1), 0),  # not counted
        ({"delivered": 2, "lost": 2}, Label(7, 1, 6, 1), 2),  # counted twice
        ({"delivered": 2, "lost": 1}, Label(7, 1, 6, 1), 0),  # counted, not said
        ({"delivered": 2, "lost": 2}, Label(8, 2, 1, 0), 2),  # the first of a takeover is missing
        ({"delivered": 2}, Label(6, 0, 6, 0), 0),  # of a dead producer, late
    ],
)
def test_wrong_books_do_not_pass(says, label, lost):
    with pytest.raises(ViolationError):
        books(**says).enter(Taken.frame(label, lost))


# ---- limits of the waits for children


def forked(work) -> int:
    if pid := os.fork():
        return pid
    try:
        work()
    finally:
        os._exit(3)


def test_a_child_that_hangs_is_a_finding():
    for wait, problem in ((children.wait_for_end, "end"), (children.wait_for_stop, "stop")):
        pid = forked(lambda: time.sleep(60))
        with pytest.raises(TimeoutError, match=rf"a sleeper does not {problem} .* \(pid {pid}, state "):
            wait(pid, "a sleeper", 0.05)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL  # and it is ended


def test_how_a_child_stops_and_ends():
    assert children.wait_for_end(forked(lambda: None), "a child") == 3
    assert children.wait_for_stop(forked(lambda: None), "a child") == 3
    pid = forked(lambda: time.sleep(60))
    os.kill(pid, signal.SIGSTOP)
    assert children.wait_for_stop(pid, "a child") is None
    os.kill(pid, signal.SIGKILL)
    assert children.wait_for_end(pid, "a child") == -signal.SIGKILL


def test_a_part_that_hangs_is_a_violation(monkeypatch):
    monkeypatch.setattr(faults, "GRACE", 0.0)
    report = faults.report_of([sys.executable, "-c", "import time; time.sleep(60)"], 0.05)
    assert "did not end within 0.1 s" in report["violation"]


def test_a_part_that_kills_nobody_is_a_violation():
    idle = "import json; print(json.dumps({'kills': 0, 'violation': None}))"
    assert "killed nobody" in faults.report_of([sys.executable, "-c", idle])["violation"]


# ---- kills


@pytest.mark.stress
@needs_gcc
def test_processes_killed_at_every_access(tmp_path):
    report = faults.report_of([str(faults.build_program(tmp_path)), "3", "1", "8"])
    assert report["violation"] is None
    assert report["kills"] > 100
    assert {row["role"] for row in report["operations"] if row["kills"]} == {
        "producer",
        "consumer",
        "anybody",
        "creator",
    }


RETIRE = "shmring_retire_place(block, place, SHMRING_PLACE_FREE);"
CLEAR = "shmring_clear_holds(block, place, found & 0xff);"
CLEAR_TO_JOIN = "shmring_clear_holds(block, place, now & 0xff);"
STAMP_ZERO = "shmring_store_relaxed(&entry->stamp, 0u);"
OWN_SLOT = "shmring_store_relaxed(&shmring_entry_at(p->block, index)->slot, slot);"
OWNER_LIVES = """|| shmring_lock_held(lock_fd, SHMRING_LOCK_PLACE(place)) ||
    !shmring_set_lock(lock_fd, SHMRING_LOCK_PLACE(place), F_WRLCK))"""
WRITTEN = "identity->magic = SHMRING_MAGIC; identity->abi = SHMRING_ABI;"
READY = "shmring_store_release(&identity->ready, 1u);"

# Mistakes in the headers: the file, the words that are there, what replaces them. Nothing is amiss
# with any of them as long as nobody dies or stops.
MISTAKES = {
    "a takeover keeps stamps of frames never published": ("internal/takeover.h", STAMP_ZERO, "(void)0;"),
    "a takeover leaves two entries with one slot": ("internal/takeover.h", OWN_SLOT, "(void)0;"),
    "a takeover begins with an old seq": (
        "producer.h",
        "p->next_seq = shmring_load_relaxed(&hot->next_seq);",
        "p->next_seq = 0;",
    ),
    "a reap leaves pins": ("internal/reap.h", f"if (dead) {{ {CLEAR}", "if (dead) {"),
    "a reap frees the place before its pins": (
        "internal/reap.h",
        f"if (dead) {{ {CLEAR} {RETIRE}",
        f"if (dead) {{ {RETIRE} {CLEAR}",
    ),
    "a join at the place of a dead one leaves its pins": (
        "internal/join.h",
        f"if ((now & 0xff) != SHMRING_PLACE_FREE) {{ {CLEAR_TO_JOIN}",
        "if ((now & 0xff) != SHMRING_PLACE_FREE) {",
    ),
    "a reap does not ask whether the owner lives": ("internal/reap.h", OWNER_LIVES, ")"),
    "nobody is ever reaped": ("internal/reap.h", "const int dead =", "const int dead = 0 &&"),
    "a block is ready before it is written": (
        "block.h",
        WRITTEN,
        f"{WRITTEN} {READY}",
    ),
}


@needs_gcc
@pytest.mark.stress
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(tmp_path, mistake):
    name, words, instead = MISTAKES[mistake]
    include = tmp_path / "include"
    shutil.copytree(shmring.get_include(), include)
    header = include / "shmring" / name
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    text, found = re.subn(pattern, lambda _: instead, header.read_text())
    assert found == 1
    header.write_text(text)
    # What is written without atomics has no crash points: there victims are single-stepped.
    flags = ["-DBY_INSTRUCTION"] if name == "block.h" else []
    program = faults.build_program(tmp_path, *flags, include=str(include))
    assert faults.report_of([str(program), "60", "1", "8"])["violation"] is not None


@needs_gcc
@pytest.mark.stress
@pytest.mark.timeout(600)
def test_all_faults(tmp_path):
    done = script("faults.py", "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert len(parts) == len(faults.PARTS)
    assert all(part["kills"] > 0 for part in parts)


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_soak(tmp_path):
    done = script("soak.py", "--seconds", 60, "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frames delivered"] > 1000
    assert report["consumers killed"] > 10
    assert report["producers killed"] > 0
