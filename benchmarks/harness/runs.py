"""The two kinds of run: a stream from one process to others, and ping-pong between two."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.harness.credit import Credit
from benchmarks.harness.frames import LARGE
from benchmarks.harness.isolation import isolated, unique_name
from benchmarks.harness.roles import Role, play, produce, receive
from benchmarks.harness.transport import Job, Transport

MOST = 20_000_000  # messages of one stream
TURNS = 12


def patience(transport: Transport) -> int:
    return 3 if transport.slow else 1


# ---- a stream: 1 -> n


def stream(
    transport: Transport,
    *,
    nbytes: int,
    slots: int,
    reads: str = "sample",
    seconds: float,
    consumers: int = 1,
    most: int = MOST,
    **options: Any,
) -> dict[str, float]:
    """Frames per second from one process to `consumers` others, and what they got per second in all.

    Warm-up first, in the same processes, with every message checked; its rate decides how many to send.
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

    return dict(isolated(work, transport.leftovers, patience(transport)))


class Rates(NamedTuple):
    """Messages per second, sent and received by all; the producer's processor time for each, in ns."""

    sent: float
    delivered: float
    producer_ns: float


class Stream:
    """The processes of one stream: a producer, its consumers, and bystanders."""

    def __init__(self, transport: Transport, job: Job, link: Any):
        credit = Credit(job.consumers, job.slots // 2) if transport.credit else None
        cores = (0, 1) if job.consumers == 1 else (None, None)
        self.sent = 0
        self.producer = ready(Role(produce, transport, job, link, credit, core=cores[0]))
        self.consumers = [
            Role(receive, transport, job, link, credit, index, core=cores[1])
            for index in range(job.consumers)
        ]
        for consumer in self.consumers:
            ready(consumer)
        beside = job.options.get("beside")
        self.bystanders = [ready(Role(beside, job, core=None))] if beside else []

    def run(self, count: int, reads: str) -> Rates:
        """Send the next `count` messages."""
        for consumer in self.consumers:
            consumer.ask(self.sent, count, reads)
        self.producer.ask(self.sent, count)
        (began, _, used), *results = Role.answers([self.producer, *self.consumers])
        self.sent += count
        elapsed = (max(ended for ended, _ in results) - began) / 1e9
        return Rates(count / elapsed, sum(came for _, came in results) / elapsed, used / count)

    def end(self) -> None:
        for role in (*self.consumers, *self.bystanders, self.producer):
            role.end()


def ready(role: Role) -> Role:
    role.answer()
    return role


def run_stream(
    transport: Transport, job: Job, link: Any, reads: str, seconds: float, most: int
) -> dict[str, float]:
    running = Stream(transport, job, link)
    rates = running.run(to_send(warm_up(running, transport, job, reads, seconds, most), seconds, most), reads)
    running.end()
    return {
        "frames": rates.sent * transport.batch,
        "delivered": rates.delivered * transport.batch,
        "producer_ns": rates.producer_ns / transport.batch,
    }


def warm_up(
    running: Stream, transport: Transport, job: Job, reads: str, seconds: float, most: int = MOST
) -> float:
    """Messages per second, found with every message checked."""
    every = "all" if reads == "all" else "touch"
    few = 16 if job.nbytes >= LARGE else 64 if transport.slow else 512
    rate = running.run(few, every).sent
    return running.run(to_send(rate, seconds / 5, most), every).sent


def to_send(rate: float, seconds: float, most: int) -> int:
    return max(8, min(most, round(rate * seconds / 64) * 64 or round(rate * seconds)))


# ---- two streams in turns


def in_turns(
    transport: Transport,
    *,
    nbytes: int,
    slots: int,
    seconds: float,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
) -> list[list[Rates]]:
    """The rates of each turn of two streams with different options: one runs while the other waits.

    Whatever else the machine does meets both, since they take turns within a moment.
    """
    jobs = [Job(unique_name(), nbytes, slots, options=dict(options)) for options in (first, second)]

    def work() -> list[list[Rates]]:
        links = [transport.setup(job) for job in jobs]
        try:
            return run_in_turns(transport, jobs, links, seconds)
        finally:
            for job, link in zip(jobs, links, strict=True):
                transport.cleanup(job, link)

    return [[Rates(*rates) for rates in turn] for turn in isolated(work, transport.leftovers)]


def run_in_turns(
    transport: Transport, jobs: list[Job], links: list[Any], seconds: float
) -> list[list[Rates]]:
    streams = [Stream(transport, job, link) for job, link in zip(jobs, links, strict=True)]
    rates = [
        warm_up(stream, transport, job, "sample", seconds) for stream, job in zip(streams, jobs, strict=True)
    ]
    count = to_send(min(rates), seconds / TURNS, MOST)
    turns = []
    for number in range(TURNS):
        order = (0, 1) if number % 2 else (1, 0)  # so that none is always the one that goes first
        found = {which: streams[which].run(count, "sample") for which in order}
        turns.append([found[0], found[1]])
    for stream in streams:
        stream.end()
    return turns


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
        links = (transport.setup(jobs[0]), transport.setup(jobs[1]))
        try:
            return run_ping_pong(transport, jobs, links, seconds)
        finally:
            for each, link in zip(jobs, links, strict=True):
                transport.cleanup(each, link)

    return dict(isolated(work, transport.leftovers, patience(transport)))


def run_ping_pong(
    transport: Transport, jobs: tuple[Job, Job], links: tuple[Any, Any], seconds: float
) -> dict[str, float]:
    server = ready(Role(play, transport, jobs, links, True, core=0))
    returner = ready(Role(play, transport, jobs[::-1], links[::-1], False, core=1))
    for role in (server, returner):
        role.ask("open")
    for role in (server, returner):
        role.answer()
    sent = 0

    def phase(count: int) -> list[int]:
        nonlocal sent
        returner.ask(sent, count)
        server.ask(sent, count)
        times, _ = Role.answers([server, returner])
        sent += count
        return list(times)

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
