"""Valgrind's memcheck on the C self-test and on a tour of the Python API.

python tests/provers/faults/memcheck.py

In the self-test no error and no definite leak is allowed. CPython and numpy leak at exit and look at bytes
that nobody wrote, and the dynamic loader's strncmp reads whole words; so in the tour these three count where
the way to them leads through the core, all others always.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from itertools import takewhile
from pathlib import Path

HERE = Path(__file__).parent
C_TESTS = HERE.parent / "c"
ROUNDS = 1


def errors_of(command: list[str], log: Path) -> list[ET.Element]:
    """What memcheck found; the program's own failure ends this one."""
    watch = ["valgrind", "-q", "--xml=yes", f"--xml-file={log}", "--child-silent-after-fork=yes"]
    leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--num-callers=40"]
    words = [*watch, *leaks, *command]
    done = subprocess.run(
        words,
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(
            f"memcheck: {command[0]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
        )
    return list(ET.parse(log).getroot().iter("error"))


def is_usual(error: ET.Element) -> bool:
    by_loader = any(frame.findtext("fn") == "is_dst" for frame in error.iter("frame"))
    return by_loader or error.findtext("kind", "").startswith(("Leak_", "Uninit"))


def went_through_core(error: ET.Element) -> bool:
    """Not by an import that the core makes: what other modules do then is their affair."""
    frames = takewhile(lambda frame: frame.findtext("fn") != "import_find_and_load", error.iter("frame"))
    return any("shmring/_core." in (frame.findtext("obj") or "") for frame in frames)


def show(error: ET.Element) -> None:
    print(error.findtext("kind"), error.findtext("what") or error.findtext("xwhat/text"))
    for frame in error.iter("frame"):
        place = frame.findtext("file") or frame.findtext("obj")
        print(f"    {frame.findtext('fn')} ({place}:{frame.findtext('line')})")


def main() -> int:
    bad = []
    with tempfile.TemporaryDirectory(prefix="shmring-memcheck-") as folder:
        out = Path(folder)
        program = out / "native" / "selftest"
        subprocess.run(
            ["make", "-s", "-C", str(C_TESTS), f"OUT={out}", "OPTIMISE=-O1", str(program)], check=True
        )
        bad += errors_of([str(program)], out / "selftest.xml")
        tour = [sys.executable, str(HERE / "tour.py"), str(ROUNDS)]
        found = errors_of(tour, out / "tour.xml")
        bad += [error for error in found if not is_usual(error) or went_through_core(error)]
    for error in bad:
        show(error)
    print(f"memcheck: {len(bad)} errors; {len(found)} reports from the tour")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
