"""Who a process is and what it does, as psutil knows it."""

from __future__ import annotations

from dataclasses import dataclass

from shmring import ConsumerStats, ProducerStats
from shmring._cli.support import output
from shmring._participants import is_here

ELSEWHERE = "(of another pid namespace, or gone)"


def command(who: ProducerStats | ConsumerStats) -> str:
    """Write the command of a living participant, or why it has none here."""
    return output.clean(who.command) if is_here(who.pid, who.start_time) else ELSEWHERE


def producer_name(producer: ProducerStats) -> str:
    """Name a producer by its pid and program, or say what became of it."""
    if producer.state != "live":
        return producer.state
    program = output.clean(producer.command.partition(" ")[0].rpartition("/")[2])
    if not is_here(producer.pid, producer.start_time):
        program = "(elsewhere)"  # in another pid namespace
    return f"{producer.pid} {program}".rstrip()


HALTED = {"stopped": "stopped", "tracing-stop": "traced", "zombie": "zombie"}  # by psutil's status


@dataclass(frozen=True, slots=True)
class Process:
    """A process; blank where it is gone or hidden."""

    user: str = ""
    status: str = ""
    cpu_seconds: float | None = None
    memory: int | None = None

    @property
    def halted(self) -> str:
        """Why a living process does nothing; blank where it runs or may run."""
        return HALTED.get(self.status, "")


def describe(pid: int, start_time: int, *, alive: bool) -> Process:
    """Describe a participant that the ring says is alive."""
    import psutil

    if not alive or not is_here(pid, start_time):
        return Process()
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Process(
                process.username(), process.status(), times.user + times.system, process.memory_info().rss
            )
    except psutil.Error:
        return Process()
