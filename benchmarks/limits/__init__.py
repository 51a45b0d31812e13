"""What the machine allows: small C programs, built when the suite starts."""

import ctypes
import functools
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shmring

HERE = Path(__file__).parent
LIMIT_S = 20


@functools.cache
def folder() -> Path:
    """Where the programs were built; removed at exit."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise SystemExit(f"the limits are C programs, and there is no compiler {compiler!r}")
    place = _temporary()
    for source in sorted(HERE.glob("*.c")):
        if source.stem == "marks":
            continue  # only the instruction counts need it, and valgrind's headers
        target = place / source.stem
        library = source.stem == "reader"
        command = [
            compiler,
            "-O3",
            "-std=gnu11",
            *(["-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"] if library else []),
            f"-I{shmring.get_include()}",
            str(source),
            "-o",
            str(target),
        ]
        subprocess.run(command, check=True)
    return place


@functools.cache
def _temporary() -> Path:
    temporary = tempfile.TemporaryDirectory(prefix="shmring-limits-")
    _kept.append(temporary)
    return Path(temporary.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def run(program: str, *arguments: Any) -> Any:
    """What a program prints: a number, or percentiles."""
    command = [str(folder() / program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if result.returncode:
        raise RuntimeError(f"{program}: {result.stderr.strip() or result.returncode}")
    return json.loads(result.stdout)


def probe() -> float:
    """Nanoseconds from one core to the other, now."""
    return float(run("pingpong", "probe"))


@functools.cache
def frame_sum() -> Callable[[Any], int]:
    """The function that reads a whole frame of words, and adds them up modulo 2**64."""
    function = ctypes.PyDLL(str(folder() / "reader")).sum_frame
    function.argtypes, function.restype = [ctypes.py_object], ctypes.c_uint64
    return function
