"""The targets: bounds for ratios and values, judged by the rows of one run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.harness.cells import PEER, ratios

Rows = list[dict[str, Any]]
SMALL, BATCHES = "64 B, one per call", "64 B, batches of 64"
CALLS = "calls in one process, 64 B"
FAN = "1 MiB by copy, 1 to 4"


class Missing(Exception):
    """The run has no such row."""


def values(rows: Rows, part: str, case: str, subject: str = "shmring", metric: str = "frames") -> list[float]:
    """One value a round."""
    for row in rows:
        if (row["part"], row["case"], row["subject"], row["metric"]) == (part, case, subject, metric):
            if row["values"]:
                return list(row["values"])
            raise Missing(row["error"])
    raise Missing(f"not run: {part}: {case}: {subject}")


def best(rows: Rows, part: str, case: str, metric: str, kind: str, lowest: bool = False) -> list[float]:
    """The values of the best subject of a kind."""
    found = [
        row
        for row in rows
        if (row["part"], row["case"], row["metric"], row["kind"]) == (part, case, metric, kind)
        and row["values"]
    ]
    if not found:
        raise Missing(f"no {kind} ran: {part}: {case}")
    return list((min if lowest else max)(found, key=lambda row: row["median"])["values"])


@dataclass(frozen=True)
class Target:
    """`measured(rows)` gives one value a round; their median is compared."""

    text: str
    measured: Callable[[Rows], list[float]]
    bound: float
    at_least: bool
    unit: str = "x"
    or_else: "Target | None" = None  # met if this one is


def at_least(
    text: str,
    bound: float,
    measured: Callable[[Rows], list[float]],
    unit: str = "x",
    or_else: Target | None = None,
) -> Target:
    return Target(text, measured, bound, True, unit, or_else)


def at_most(
    text: str,
    bound: float,
    measured: Callable[[Rows], list[float]],
    unit: str = "x",
    or_else: Target | None = None,
) -> Target:
    return Target(text, measured, bound, False, unit, or_else)


def own(
    part: str, case: str, metric: str = "frames", subject: str = "shmring", scale: float = 1.0
) -> Callable[[Rows], list[float]]:
    return lambda rows: [value * scale for value in values(rows, part, case, subject, metric)]


def to_best_peer(part: str, case: str, metric: str = "frames") -> Callable[[Rows], list[float]]:
    return lambda rows: ratios(values(rows, part, case, metric=metric), best(rows, part, case, metric, PEER))


def to_limit(part: str, case: str, metric: str, limit: str) -> Callable[[Rows], list[float]]:
    return lambda rows: ratios(
        values(rows, part, case, metric=metric), values(rows, part, case, limit, metric)
    )


def beyond(part: str, case: str, metric: str, limit: str) -> Callable[[Rows], list[float]]:
    """By how much ours exceeds the limit, round by round."""

    def measured(rows: Rows) -> list[float]:
        mine, theirs = values(rows, part, case, metric=metric), values(rows, part, case, limit, metric)
        return [a - b for a, b in zip(mine, theirs, strict=False)]

    return measured


def near_latency(rows: Rows) -> list[float]:
    """p50 of the rounds in which the cores were near each other, before and after the run."""
    for row in rows:
        if (row["case"], row["subject"], row["metric"]) == ("64 B, spinning", "shmring", "p50"):
            near = [
                value
                for value, probes in zip(row["values"], row["core_to_core_ns"], strict=True)
                if max(probes) < 110
            ]
            if near:
                return near
            raise Missing("the cores were never near")
    raise Missing("not run: latency")


def cases(
    part: str, first: str, second: str, metric: str, subject: str = "shmring"
) -> Callable[[Rows], list[float]]:
    """One case of ours relative to another."""
    return lambda rows: ratios(
        values(rows, part, first, subject, metric), values(rows, part, second, subject, metric)
    )


def cost_of_a_frame(first: str, second: str) -> Callable[[Rows], list[float]]:
    """How much more processor time per frame the producer needs in the first case than in the second."""

    def measured(rows: Rows) -> list[float]:
        one, other = (values(rows, "disturb", case, metric="producer_ns") for case in (first, second))
        return [a - b for a, b in zip(one, other, strict=False)]

    return measured


PLAIN, WARM = "plain C ring", "plain C ring, slot freed last first"
HD_TOUCH, HD_ALL, HD_PLACE = (
    "1080p by copy, consumer touches",
    "1080p by copy, consumer reads all",
    "1080p in place, transport",
)
GETS, TAKE_1_MS = "get with release in one process, 64 B", "frames that take 1 ms"
SPINNING, ASLEEP = "64 B, spinning", "64 B, asleep"
TARGETS = [
    at_least("64 B, one per call: times the best Python peer", 5, to_best_peer("cost", SMALL)),
    at_least("64 B, one per call (aim)", 8e6, own("cost", SMALL), "frames/s"),
    at_least(
        "64 B, batches of 64: of the plain C ring",
        0.6,
        lambda rows: ratios(
            values(rows, "cost", BATCHES, "shmring, batches of 64"), values(rows, "cost", BATCHES, PLAIN)
        ),
    ),
    at_most("get and release", 60, own("cost", CALLS, "get"), "ns"),
    at_most("put of 64 B", 60, own("cost", CALLS, "put"), "ns"),
    at_most("claim to publish in a with", 130, own("cost", CALLS, "claim"), "ns"),
    at_most(".array more", 60, own("cost", CALLS, "array"), "ns"),
    at_most("a batch frame, get", 5, own("cost", CALLS, "batch"), "ns"),
    at_most(
        "64 B spinning p50: beyond the C cache-line ping-pong",
        300,
        beyond("latency", SPINNING, "p50", "C cache-line ping-pong"),
        "ns",
    ),
    at_least(
        "64 B spinning p50: times better than the best peer",
        2,
        lambda rows: ratios(
            best(rows, "latency", SPINNING, "p50", PEER, lowest=True),
            values(rows, "latency", SPINNING, metric="p50"),
        ),
    ),
    at_most("64 B spinning p50 while the cores are near", 350, near_latency, "ns"),
    at_most(
        "64 B asleep p50: of a raw futex wake", 1.15, to_limit("latency", ASLEEP, "p50", "raw futex wake")
    ),
    at_most(
        "64 B asleep p50, wait for 8 rings: of a wait for one",
        1.2,
        lambda rows: ratios(
            values(rows, "latency", ASLEEP, "shmring, wait for 8 rings", "p50"),
            values(rows, "latency", ASLEEP, "shmring, wait for 1 ring", "p50"),
        ),
    ),
    at_most(
        "1 MiB by copy p50: of plain C",
        1.05,
        to_limit("latency", "1 MiB by copy, spinning", "p50", "plain C copy and a flag"),
    ),
    at_least("1080p by copy, touch: times the best peer", 1, to_best_peer("video", HD_TOUCH)),
    at_least("1080p by copy, reads all: times the best peer", 1, to_best_peer("video", HD_ALL)),
    at_least(
        "1080p by copy, touch",
        8500,
        own("video", HD_TOUCH),
        "frames/s",
        at_least("of the plain C ring with warm reuse", 0.93, to_limit("video", HD_TOUCH, "frames", WARM)),
    ),
    at_least(
        "1080p by copy, reads all",
        8000,
        own("video", HD_ALL),
        "frames/s",
        at_least("of the plain C ring with warm reuse", 0.93, to_limit("video", HD_ALL, "frames", WARM)),
    ),
    at_least(
        "1080p in place, transport rate", 3e6, own("video", HD_PLACE, subject="shmring, claim"), "frames/s"
    ),
    at_least("fan-out 1 to 4, 1 MiB, touch", 190, own("fanout", f"{FAN}, touch", "GB/s"), "GB/s"),
    at_least(
        "fan-out 1 to 4, 1 MiB, read all: of plain C",
        0.9,
        to_limit("fanout", f"{FAN}, read all", "GB/s", PLAIN),
    ),
    at_most(
        "a lossy consumer: producer's cost a frame more",
        10,
        cost_of_a_frame("64 B, a stalled lossy consumer", "64 B, alone"),
        "ns",
    ),
    at_least(
        "a held frame, 64 B: throughput of that without",
        0.99,
        cases("disturb", "64 B, a frame held", "64 B, alone", "frames"),
    ),
    at_least(
        "a held frame, 1 MiB: throughput of that without",
        0.99,
        cases("disturb", "1 MiB, a frame held", "1 MiB, alone", "frames"),
    ),
    at_least(
        "a held frame, 64 B, spare slots: throughput of that without",
        0.98,
        cases("disturb", "64 B, a frame held, 8 spare slots", "64 B, alone, 8 spare slots", "frames"),
    ),
    at_least(
        "as many held frames as spare slots, 64 B: throughput of that without",
        0.98,
        cases("disturb", "64 B, 8 frames held, 8 spare slots", "64 B, alone, 8 spare slots", "frames"),
    ),
    at_most(
        "a member's get with release: of an ordinary consumer's",
        1.6,
        lambda rows: ratios(
            values(rows, "groups", GETS, metric="member"), values(rows, "groups", GETS, metric="get")
        ),
    ),
    at_least(
        "4 members, frames that take 1 ms: of one member",
        3.9,
        cases("groups", f"{TAKE_1_MS}, 4 members", f"{TAKE_1_MS}, 1 member", "frames"),
    ),
    at_most("a blocked consumer", 0.2, own("idle", "a blocked consumer", "used"), "% of a core"),
    at_most("a blocked producer", 0.2, own("idle", "a blocked producer", "used"), "% of a core"),
    at_most("attach, 1 MiB", 1, own("setup", "ring of 1 MiB", "attach", scale=1e-3), "ms"),
    at_most("attach, 2 GiB", 1, own("setup", "ring of 2 GiB", "attach", scale=1e-3), "ms"),
    at_most("import beyond numpy", 15, own("setup", "import, beyond numpy", "import"), "ms"),
    at_most(
        "frame size in place, get: 32 MiB to 64 B",
        1.1,
        cases("scaling", "frames of 32 MiB, in place", "frames of 64 B, in place", "get"),
    ),
    at_most(
        "frame size in place, claim: 32 MiB to 64 B",
        1.1,
        cases("scaling", "frames of 32 MiB, in place", "frames of 64 B, in place", "claim"),
    ),
    at_most("slots, get: 1,000,000 to 16", 2, cases("scaling", "1,000,000 slots", "16 slots", "get")),
    at_most("slots, claim: 1,000,000 to 16", 2, cases("scaling", "1,000,000 slots", "16 slots", "claim")),
]


def judge(rows: Rows, targets: Iterable[Target] = TARGETS) -> list[dict[str, Any]]:
    """Every target with what was measured for it."""
    return [verdict(target, rows) for target in targets]


def verdict(target: Target, rows: Rows) -> dict[str, Any]:
    found: dict[str, Any] = {
        "target": target.text,
        "bound": target.bound,
        "at_least": target.at_least,
        "unit": target.unit,
    }
    try:
        measured = target.measured(rows)
    except Missing as missing:
        return found | {"met": None, "why": str(missing)}
    middle = median(measured)
    met = middle >= target.bound if target.at_least else middle <= target.bound
    found |= {"median": middle, "min": min(measured), "max": max(measured), "met": met}
    if target.or_else is not None:
        other = verdict(target.or_else, rows)
        found |= {"or_else": other, "met": met or bool(other["met"])}
    return found
