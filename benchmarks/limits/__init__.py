"""The limits of the machine, measured by small C programs that are built when the suite starts."""

import atexit
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
_unbuilt: dict[str, str] = {}  # program -> the compiler's error


@functools.cache
def folder() -> Path:
    """Where the programs were built; removed at exit."""
    if shutil.which(compiler()) is None:
        raise SystemExit(f"the limits are C programs, and there is no compiler {compiler()!r}")
    place = Path(tempfile.mkdtemp(prefix="shmring-limits-"))
    atexit.register(shutil.rmtree, place)
    for source in sorted(HERE.glob("*.c")):
        if source.stem != "marks":  # only the instruction counts need it, and valgrind's headers
            build(source, place / source.stem)
    return place


def compiler() -> str:
    return os.environ.get("CC", "cc")


def build(source: Path, target: Path) -> None:
    """Compile one program, or the library that reads frames. If it fails, only its own users fail, later."""
    options = ["-O3", "-std=gnu11", "-Werror=implicit-function-declaration", f"-I{shmring.get_include()}"]
    if source.stem == "reader":
        options += ["-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"]
    command = [compiler(), *options, str(source), "-o", str(target)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        lines = found.stderr.splitlines() or ["no message"]
        errors = [line for line in lines if "error:" in line or "undefined" in line] or lines
        _unbuilt[source.stem] = f"{source.name} does not compile: {errors[0].rpartition('error: ')[2]}"


def built(program: str) -> str:
    """Where it lies."""
    path = folder() / program
    if program in _unbuilt:
        raise RuntimeError(_unbuilt[program])
    return str(path)


def run(program: str, *arguments: Any) -> Any:
    """What a program prints: a number, or percentiles."""
    command = [built(program), *map(str, arguments)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{program}: no result within {LIMIT_S} s: killed") from None
    if result.returncode:
        raise RuntimeError(f"{program}: {result.stderr.strip() or result.returncode}")
    return json.loads(result.stdout)


def probe() -> float:
    """Nanoseconds from one core to the other, now."""
    return float(run("pingpong", "probe"))


@functools.cache
def frame_sum() -> Callable[[Any], int]:
    """The function that reads a whole frame of words, and adds them up modulo 2**64."""
    function = ctypes.PyDLL(built("reader")).sum_frame
    function.argtypes, function.restype = [ctypes.py_object], ctypes.c_uint64
    return function
