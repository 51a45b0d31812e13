"""The parent of the demo's four processes: starts them, shows what they do, ends them, whatever happens."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import time
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from shmring import Ring
from shmring._demo.children import CONSUMERS, Limits, Report, run
from shmring._demo.show import Lines, Meter, make_display
from shmring._demo.sources import Source
from shmring._demo.verdict import COLUMNS, final_rows, find_problems, praise

GRACE = 10.0  # seconds that the processes have to end once the stream was stopped
JOBS = {
    "producer": "writes each frame into its slot and computes its crc32",
    "recorder": "lossless: gets every frame, checks its crc32 in place",
    "viewer": "lossy and slow: holds a frame for 40 ms, then checks it",
    "latest": "checks the newest frame, ten times a second",
}


class Signals:
    """Ctrl-C, a kill and a closed terminal as events to wait for: nothing is torn by an exception."""

    def __init__(self) -> None:
        self.received: list[int] = []

    def __enter__(self) -> Signals:
        """Take the signals over."""
        self.socket, self._writer = socket.socketpair()
        self.socket.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        caught = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            caught.pop()  # started by nohup
        self._handlers = {number: signal.signal(number, self._note) for number in caught}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self.socket.close()
        self._writer.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)

    def drain(self) -> None:
        """Forget that the socket became readable; `received` stays."""
        with contextlib.suppress(BlockingIOError):
            self.socket.recv(4096)


@dataclass
class Child:
    """One process of the demo and what it reported."""

    role: str
    process: SpawnProcess
    pipe: Connection
    report: Report | None = None
    running: bool = True

    def collect(self) -> str:
        """Take the report that has come, or find that there will be none; what is wrong with it."""
        who = f"the {self.role} (pid {self.process.pid})"
        self.running = False
        try:
            report: Report = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            return f"{who} was killed by {_name(-code)}" if code < 0 else f"{who} ended with exit code {code}"
        self.report = report
        return f"{who} failed: {report.failure}" if report.failure else ""


class Demo:
    """The parent of the four processes."""

    def __init__(self, ring: Ring, source: Source, limits: Limits, signals: Signals):
        self.ring = ring
        self.source = source
        self.limits = limits
        self.signals = signals
        self.children: list[Child] = []
        self.troubles: list[str] = []
        self.deadline: float | None = None  # set once the stream was told to stop

    def run(self) -> int:
        """Start, watch, end, judge; the exit code."""
        display = make_display()
        try:
            self._start()
            display.say(self._headline())
            for child in self.children:
                display.say(f"  {child.role:<8}  pid {child.process.pid:<7}  {JOBS[child.role]}")
            with display:
                self._watch(display)
        finally:
            for child in self.children:
                child.process.kill()
                child.process.join()
                child.process.close()
                child.pipe.close()
        return self._conclude(display)

    def _headline(self) -> str:
        rows, columns, _ = self.source.shape
        limits = ((self.limits.frames, "frames"), (self.limits.seconds, "s"))
        until = " or ".join(f"{value:,g} {unit}" for value, unit in limits if value is not None)
        rate = "as fast as they are taken" if self.limits.rate is None else f"{self.limits.rate:g} a second"
        return (
            f"shmring demo (pid {os.getpid()}): {columns}x{rows} RGB frames of "
            f"{self.ring.frame_nbytes / 1e6:.2f} MB, {self.source.title}, {rate}, for {until}, "
            f"through a ring of {self.ring.slots} slots\n"
            f"  ring      {self.ring.name}, {self.ring.nbytes / 1e6:.1f} MB"
        )

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # its start would unblock SIGINT
        # The children inherit this mask: Ctrl-C on the terminal reaches only the parent, which ends them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            for role in ("producer", *CONSUMERS):
                ours, theirs = spawn.Pipe(duplex=False)
                arguments = (role, self.ring, theirs, self.source, self.limits)
                process = spawn.Process(target=run, args=arguments, name=f"shmring demo {role}", daemon=True)
                process.start()
                theirs.close()  # the child's is then the only one: its death ends the pipe
                self.children.append(Child(role, process, ours))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch(self, display: Lines) -> None:
        """Show the stream and collect reports until every process has ended, or had its time."""
        meter = Meter(self.ring.frame_nbytes)
        while running := [child for child in self.children if child.running]:
            now = time.monotonic()
            if self.deadline is not None and (now >= self.deadline or len(self.signals.received) > 1):
                return
            timeout = min(meter.due, self.deadline or meter.due) - now
            ready = wait([self.signals.socket, *(child.pipe for child in running)], max(timeout, 0))
            self.signals.drain()
            if self.signals.received and self.deadline is None:
                display.say(f"Stopping ({_name(self.signals.received[0])}).")
                self._end_stream()
            for child in running:
                if child.pipe in ready:
                    self._collect(child, display)
            if time.monotonic() >= meter.due and (rows := meter.look(self.ring.stats())):
                display.live(meter.seconds, rows)

    def _collect(self, child: Child, display: Lines) -> None:
        trouble = child.collect()
        if trouble and not (self.deadline and child.process.exitcode == -signal.SIGTERM):
            self.troubles.append(trouble)
            display.say(f"{trouble[0].upper()}{trouble[1:]}.")
            self._end_stream()

    def _end_stream(self) -> None:
        """Ask the producer to close the ring, so that the consumers end."""
        # Before the first frame nobody has anything to say, and consumers may wait for ever.
        grace = GRACE if self.ring.stats().published else 0
        self.deadline = self.deadline or time.monotonic() + grace
        for child in self.children:
            if child.role == "producer" and child.running:
                child.process.terminate()

    def _conclude(self, display: Lines) -> int:
        reports = {child.role: child.report for child in self.children}
        frame_nbytes = self.ring.frame_nbytes
        display.table(COLUMNS, final_rows(reports, frame_nbytes))
        stopped = self.signals.received[0] if self.signals.received else 0
        if stopped:
            display.say(f"Stopped by {_name(stopped)}; this is what had been streamed:")
        whole = {role: report for role, report in reports.items() if report and not report.failure}
        silent = [role for role in reports if role not in whole]
        if silent and stopped and not self.troubles:
            display.say("No verdict: the stream had not begun or did not end in time.")
            return 128 + stopped
        problems = [*self.troubles, *([] if silent else find_problems(whole))]
        if silent and not self.troubles:
            problems.append(f"no report from {', '.join(silent)}")
        if problems:
            display.say(f"NOT VERIFIED: {'; '.join(problems)}.")
            return 1
        display.say(praise(whole, frame_nbytes))
        return 128 + stopped if stopped else 0


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
