"""Runs one measurement in processes of its own, and cleans up after it whatever happens."""

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
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from benchmarks.harness.credit import Credit
from benchmarks.harness.roles import Role, play, produce, receive
from benchmarks.harness.transport import Job, Transport

LIMIT_S = 15.0  # a run that takes longer is killed
PREFIX = f"shmbench-{os.getpid()}"  # of every name of this suite's process, and of those that it forks
OURS = (f"/dev/shm/*{PREFIX}-*",)
TOKEN = "SHMRING_BENCH_RUN"  # in the environment of every process that a run starts
_numbers = itertools.count()


class RunFailed(Exception):
    """A run raised, died or hung; the message says which."""


def unique_name() -> str:
    return f"{PREFIX}-{next(_numbers)}-{secrets.token_hex(3)}"


def isolated(work: Callable[[], Any], leftovers: Iterable[str] = (), limit_s: float = LIMIT_S) -> Any:
    """What `work()` returns (JSON), called in a process of its own, in a session of its own."""
    patterns = (*OURS, *leftovers)
    before = existing(patterns)
    ours, theirs = Pipe(duplex=False)
    token = secrets.token_hex(8)
    with tempfile.TemporaryFile(mode="w+") as noise:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            drive(work, theirs, token, noise.fileno())
        theirs.close()
        try:
            kind, value = json.loads(ours.recv_bytes()) if ours.poll(limit_s) else ("hung", None)
        except EOFError:
            kind, value = "died", None
        finally:
            end_session(pid, token)
            for path in existing(patterns) - before:
                remove(Path(path))
        if kind == "value":
            return value
        noise.seek(0)
        said = " | ".join(noise.read().strip().splitlines()[-2:])[-300:]
    reason = {"hung": f"no result within {limit_s:.0f} s: killed", "died": "the process died"}.get(
        kind, value
    )
    raise RunFailed(f"{reason}{': ' + said if said and kind != 'error' else ''}")


def existing(patterns: Iterable[str]) -> set[str]:
    return {path for pattern in patterns for path in glob.glob(pattern)}


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def drive(work: Callable[[], Any], pipe: Any, token: str, noise: int) -> None:
    """The process of a run. Never returns."""
    os.setsid()
    os.environ[TOKEN] = token
    os.dup2(noise, 1)
    os.dup2(noise, 2)
    try:
        answer = ["value", work()]
    except BaseException as error:
        traceback.print_exc()
        answer = ["error", f"{type(error).__name__}: {str(error)[:300]}"]
    with contextlib.suppress(OSError):
        pipe.send_bytes(json.dumps(answer).encode())
    os._exit(0)


def end_session(pid: int, token: str) -> None:
    """Kill what is left of a run: its session, and programs that carry its token (daemons leave sessions)."""
    with contextlib.suppress(ChildProcessError):
        for _ in range(50):  # most end by themselves at once
            if os.waitpid(pid, os.WNOHANG)[0]:
                break
            time.sleep(0.01)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for _ in range(100):
        left = [
            other
            for other in map(int, filter(str.isdigit, os.listdir("/proc")))
            if belongs(other, pid, token)
        ]
        if not left:
            return
        for other in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        time.sleep(0.01)


def belongs(other: int, session: int, token: str) -> bool:
    try:
        status = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()
        if status[0] == "Z":
            return False
        if int(status[3]) == session:
            return True
        return f"{TOKEN}={token}".encode() in Path(f"/proc/{other}/environ").read_bytes()
    except (OSError, IndexError):
        return False


# ---- a stream: 1 -> n


def stream(
    transport: Transport,
    *,
    nbytes: int,
    slots: int,
    reads: str = "sample",
    seconds: float,
    consumers: int = 1,
    most: int = 20_000_000,
    **options: Any,
) -> dict[str, float]:
    """Frames per second from one process to `consumers` others, and what they got per second in all.

    Warm-up first, in the same processes, with every message checked; it also tells how many to send.
    """
    job = Job(unique_name(), nbytes, min(slots, transport.most_slots), consumers, options=options)

    def work() -> dict[str, float]:
        if transport.whole:
            return transport.whole_stream(job, reads, seconds)
        link = transport.setup(job)
        try:
            return run_stream(transport, job, link, reads, seconds, most)
        finally:
            transport.cleanup(job, link)

    return isolated(work, transport.leftovers, LIMIT_S * (3 if transport.slow else 1))


def run_stream(
    transport: Transport, job: Job, link: Any, reads: str, seconds: float, most: int
) -> dict[str, float]:
    credit = Credit(job.consumers, job.slots // 2) if transport.credit else None
    alone = job.consumers == 1
    producer = Role(produce, transport, job, link, credit, core=0 if alone else None)
    producer.answer()
    consumers = [
        Role(receive, transport, job, link, credit, index, core=1 if alone else None)
        for index in range(job.consumers)
    ]
    for consumer in consumers:
        consumer.answer()
    beside = job.options.get("beside")
    bystander = Role(beside, job, core=None) if beside else None
    if bystander:
        bystander.answer()
    first = 0

    def phase(count: int, reads: str) -> tuple[float, float, float]:
        nonlocal first
        for consumer in consumers:
            consumer.ask(first, count, reads)
        producer.ask(first, count)
        (began, _, used), *results = Role.answers([producer, *consumers])
        first += count
        ended = max(end for end, _ in results)
        delivered = sum(came for _, came in results)
        elapsed = (ended - began) / 1e9
        return count / elapsed, delivered / elapsed, used / count

    every = "all" if reads == "all" else "touch"
    rate, _, _ = phase(16 if job.nbytes >= 1 << 16 else 64 if transport.slow else 512, every)
    rate, _, _ = phase(to_send(rate, seconds / 5, most), every)
    rate, delivered, used = phase(to_send(rate, seconds, most), reads)
    for consumer in consumers:
        consumer.end()
    if bystander:
        bystander.end()
    producer.end()
    return {
        "frames": rate * transport.batch,
        "delivered": delivered * transport.batch,
        "producer_ns": used / transport.batch,
    }


def to_send(rate: float, seconds: float, most: int) -> int:
    return max(8, min(most, round(rate * seconds / 64) * 64 or round(rate * seconds)))


# ---- ping-pong


def ping_pong(
    transport: Transport, *, nbytes: int, slots: int, seconds: float, sleeping: bool, **options: Any
) -> dict[str, float]:
    """One-way times (half of each round trip) in ns: p50, p99, p99.9."""
    job = Job(unique_name(), nbytes, slots, sleeping=sleeping, options=options)
    jobs = (job.channel("a"), job.channel("b"))

    def work() -> dict[str, float]:
        if transport.whole:
            return transport.whole_ping_pong(job, seconds)
        links = tuple(transport.setup(each) for each in jobs)
        try:
            return run_ping_pong(transport, jobs, links, seconds)
        finally:
            for each, link in zip(jobs, links, strict=True):
                transport.cleanup(each, link)

    return isolated(work, transport.leftovers, LIMIT_S * (3 if transport.slow else 1))


def run_ping_pong(
    transport: Transport, jobs: tuple[Job, Job], links: tuple, seconds: float
) -> dict[str, float]:
    server = Role(play, transport, jobs, links, True, core=0)
    server.answer()
    returner = Role(play, transport, jobs[::-1], links[::-1], False, core=1)
    returner.answer()
    for role in (server, returner):
        role.ask("open")
    for role in (server, returner):
        role.answer()
    first = 0

    def phase(count: int) -> list[int]:
        nonlocal first
        returner.ask(first, count)
        server.ask(first, count)
        times, _ = Role.answers([server, returner])
        first += count
        return times

    times = phase(64)
    typical = sorted(times)[len(times) // 2]
    phase(max(64, min(20_000, round(seconds / 5 * 1e9 / typical))))
    times = sorted(phase(max(100, min(200_000, round(seconds * 1e9 / typical)))))
    server.end()
    returner.end()
    return {
        name: times[int(len(times) * part)] / 2
        for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }
