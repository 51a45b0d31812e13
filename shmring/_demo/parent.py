"""The parent of the demo's four processes: starts them, shows what they do, ends them, whatever happens."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import weakref
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from shmring import Ring
from shmring._cli.support import output, signals
from shmring._demo.children import CONSUMERS, Account, Limits, run
from shmring._demo.show import Lines, LiveRows, make_display
from shmring._demo.sources import Source
from shmring._demo.verdict import COLUMNS, final_rows, find_problems, praise

GRACE = 10.0  # seconds that the processes have to end once the stream was stopped
JOBS = {
    "producer": "writes each frame into its slot and computes its crc32",
    "recorder": "lossless: gets every frame, checks its crc32 in place",
    "viewer": "lossy and slow: holds a frame for 40 ms, then checks it",
    "latest": "checks the newest frame, ten times a second",
}


@dataclass
class Child:
    """One process of the demo and its account."""

    role: str
    process: SpawnProcess
    pipe: Connection
    account: Account | None = None
    running: bool = True

    def collect(self) -> str:
        """Take the account that has come, or find that there will be none; what is wrong with it."""
        who = f"the {self.role} (pid {self.process.pid})"
        self.running = False
        try:
            account: Account = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            if code < 0:
                return f"{who} was killed by {signals.name(-code)}"
            return f"{who} ended with exit code {code}"
        self.account = account
        return f"{who} failed: {account.failure}" if account.failure else ""


class Demo:
    """The parent of the four processes."""

    def __init__(self, ring: Ring, source: Source, limits: Limits):
        self.ring = ring
        self.source = source
        self.limits = limits
        self.received: list[int] = []  # signals
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # wakes _watch at a signal
        weakref.finalize(self, os.close, self.bell)
        self.children: list[Child] = []
        self.troubles: list[str] = []
        self.deadline: float | None = None  # set once the stream has been asked to stop

    def run(self) -> int:
        """Start, watch, end, judge; the exit code."""
        display = make_display()
        with signals.handled(self._receive, *signals.ENDS):
            try:
                self._stream(display)
            finally:
                for child in self.children:
                    child.process.kill()
                    child.process.join()
                    child.process.close()
                    child.pipe.close()
            return self._conclude(display)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        os.eventfd_write(self.bell, 1)

    def _stream(self, display: Lines) -> None:
        self._start()
        display.say(self._headline())
        for child in self.children:
            display.say(f"  {child.role:<8}  pid {child.process.pid:<7}  {JOBS[child.role]}")
        with display:
            self._watch(display)

    def _headline(self) -> str:
        rows, columns, _ = self.source.shape
        frames = output.plural(self.limits.frames or 0, "frame")
        limits = ((self.limits.frames, frames), (self.limits.seconds, "s"))
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
        with signals.kept_from_children(signal.SIGINT, signal.SIGHUP):
            for role in ("producer", *CONSUMERS):
                ours, theirs = spawn.Pipe(duplex=False)
                arguments = (role, self.ring, theirs, self.source, self.limits)
                process = spawn.Process(target=run, args=arguments, name=f"shmring demo {role}", daemon=True)
                process.start()
                theirs.close()  # the child's is then the only one: its death ends the pipe
                self.children.append(Child(role, process, ours))

    def _watch(self, display: Lines) -> None:
        """Show the stream and collect accounts until every process has ended, or had its time."""
        live = LiveRows(self.ring.frame_nbytes)
        while running := [child for child in self.children if child.running]:
            now = time.monotonic()
            if self.deadline is not None and (now >= self.deadline or len(self.received) > 1):
                return
            timeout = min(live.due, self.deadline or live.due) - now
            ready = wait([self.bell, *(child.pipe for child in running)], max(timeout, 0))
            if self.bell in ready:
                os.eventfd_read(self.bell)
            if self.received and self.deadline is None:
                display.say(f"Stopping ({signals.name(self.received[0])}).")
                self._end_stream()
            for child in running:
                if child.pipe in ready:
                    self._collect(child, display)
            if time.monotonic() >= live.due and (rows := live.look(self.ring.stats())):
                display.live(live.seconds, rows)

    def _collect(self, child: Child, display: Lines) -> None:
        trouble = child.collect()
        if trouble and not (self.deadline and child.process.exitcode == -signal.SIGTERM):
            self.troubles.append(trouble)
            display.say(f"{trouble[0].upper()}{trouble[1:]}.")
            self._end_stream()

    def _end_stream(self) -> None:
        """Ask the producer to close the ring, so that the consumers end."""
        # Before the first frame there is nothing to account for, and consumers may wait forever.
        grace = GRACE if self.ring.stats().published else 0
        self.deadline = self.deadline or time.monotonic() + grace
        for child in self.children:
            if child.role == "producer" and child.running:
                child.process.terminate()

    def _conclude(self, display: Lines) -> int:
        accounts = {child.role: child.account for child in self.children}
        frame_nbytes = self.ring.frame_nbytes
        output.show_table(COLUMNS, final_rows(accounts, frame_nbytes))
        stopped = self.received[0] if self.received else 0
        if stopped:
            display.say(f"Stopped by {signals.name(stopped)}; this is what had been streamed:")
        whole = {role: account for role, account in accounts.items() if account and not account.failure}
        silent = [role for role in accounts if role not in whole]
        if silent and stopped and not self.troubles:
            display.say("No verdict: the stream had not begun or did not end in time.")
            return 128 + stopped
        problems = [*self.troubles, *([] if silent else find_problems(whole))]
        if silent and not self.troubles:
            problems.append(f"no account from {', '.join(silent)}")
        if problems:
            display.say(f"NOT VERIFIED: {'; '.join(problems)}.")
            return 1
        display.say(praise(whole, frame_nbytes))
        return 128 + stopped if stopped else 0
