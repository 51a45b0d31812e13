"""Calls a function in a process of its own, and cleans up after it whatever happens."""

import contextlib
import glob
import itertools
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

LIMIT_S = 15.0  # a run that takes longer is killed
PREFIX = f"shmbench-{os.getpid()}"  # of every name of this suite's process, and of those that it forks
OURS = (f"/dev/shm/*{PREFIX}-*",)
TOKEN = "SHMRING_BENCH_RUN"  # in the environment of every process that a run starts
_numbers = itertools.count()


class RunFailed(Exception):
    """A run raised, died or hung; the message says which."""


def unique_name() -> str:
    return f"{PREFIX}-{next(_numbers)}-{secrets.token_hex(3)}"


def isolated(work: Callable[[], Any], leftovers: Iterable[str] = (), patience: int = 1) -> Any:
    """What `work()` returns (JSON), called in a session of its own; killed after `patience` * LIMIT_S.

    Removes the files that the run leaves behind, if they match `leftovers`.
    """
    patterns = (*OURS, *leftovers)
    before = existing(patterns)
    token = secrets.token_hex(8)
    limit_s = patience * LIMIT_S
    with tempfile.TemporaryFile(mode="w+") as output:
        pid, pipe = start(work, token, output.fileno())
        try:
            kind, value = json.loads(pipe.recv_bytes()) if pipe.poll(limit_s) else ("hung", None)
        except EOFError:
            kind, value = "died", None
        finally:
            end_session(pid, token)
            pipe.close()
            for path in existing(patterns) - before:
                remove(Path(path))
        if kind == "value":
            return value
        if kind == "error":
            raise RunFailed(value)
        reason = f"no result within {limit_s:.0f} s: killed" if kind == "hung" else "the process died"
        output.seek(0)
        last_words = " | ".join(output.read().strip().splitlines()[-2:])[-300:]
        raise RunFailed(f"{reason}: {last_words}" if last_words else reason)


def start(work: Callable[[], Any], token: str, output: int) -> tuple[int, Connection]:
    """Fork the process of a run: its id, and the pipe that its answer comes from."""
    ours, theirs = Pipe(duplex=False)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        answer(work, theirs, token, output)
    theirs.close()
    return pid, ours


def answer(work: Callable[[], Any], pipe: Connection, token: str, output: int) -> None:
    """The process of a run: send what `work()` returns or raises. Never returns."""
    os.setsid()
    os.environ[TOKEN] = token
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        found = ["value", work()]
    except BaseException as error:
        traceback.print_exc()
        found = ["error", f"{type(error).__name__}: {str(error)[:300]}"]
    with contextlib.suppress(OSError):
        pipe.send_bytes(json.dumps(found).encode())
    os._exit(0)


def existing(patterns: Iterable[str]) -> set[str]:
    return {path for pattern in patterns for path in glob.glob(pattern)}


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def end_session(pid: int, token: str) -> None:
    """Kill what is left of a run: its session, and programs that carry its token (daemons leave sessions)."""
    reap(pid)
    for _ in range(100):
        processes = map(int, filter(str.isdigit, os.listdir("/proc")))
        left = [process for process in processes if belongs(process, pid, token)]
        if not left:
            return
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def reap(pid: int) -> None:
    """Wait for a process that is about to end; kill it if it does not."""
    with contextlib.suppress(ChildProcessError):
        for _ in range(50):
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def belongs(process: int, session: int, token: str) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        if status[0] == "Z":
            return False
        if int(status[3]) == session:
            return True
        return f"{TOKEN}={token}".encode() in Path(f"/proc/{process}/environ").read_bytes()
    except (OSError, IndexError):
        return False
