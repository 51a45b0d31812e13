"""The targets: bounds for ratios and values, judged by the rows of one run."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.harness.cells import OTHER, OTHER_SUFFIX, PEER, ratios

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


def at_least(text: str, bound: float, measured: Callable[[Rows], list[float]], unit: str = "x") -> Target:
    return Target(text, measured, bound, True, unit)


def at_most(text: str, bound: float, measured: Callable[[Rows], list[float]], unit: str = "x") -> Target:
    return Target(text, measured, bound, False, unit)


def own(
    part: str, case: str, metric: str = "frames", subject: str = "shmring"
) -> Callable[[Rows], list[float]]:
    return lambda rows: values(rows, part, case, subject, metric)


def to_best_peer(part: str, case: str, metric: str = "frames") -> Callable[[Rows], list[float]]:
    return lambda rows: ratios(values(rows, part, case, metric=metric), best(rows, part, case, metric, PEER))


def to_limit(part: str, case: str, metric: str, limit: str) -> Callable[[Rows], list[float]]:
    return lambda rows: ratios(
        values(rows, part, case, metric=metric), values(rows, part, case, limit, metric)
    )


def to_other_build(
    part: str, case: str, metric: str = "frames", subject: str = "shmring"
) -> Callable[[Rows], list[float]]:
    """Only in a run with `--against`."""
    return lambda rows: ratios(
        values(rows, part, case, subject, metric), values(rows, part, case, subject + OTHER_SUFFIX, metric)
    )


def better_than_best_peer(case: str) -> Callable[[Rows], list[float]]:
    """How many times as long the best peer takes one way."""
    return lambda rows: ratios(
        best(rows, "latency", case, "p50", PEER, lowest=True), values(rows, "latency", case, metric="p50")
    )


def metrics(part: str, case: str, first: str, second: str) -> Callable[[Rows], list[float]]:
    """One metric of a row of ours relative to another of the same row: measured in turns."""
    return lambda rows: ratios(
        values(rows, part, case, metric=first), values(rows, part, case, metric=second)
    )


def to_no_op(call: str) -> Callable[[Rows], list[float]]:
    """A call relative to the cheapest call of Python, in the same process."""
    return metrics("cost", CALLS, call, "no_op")


def time_of_a_frame(rows: Rows) -> list[float]:
    """Of what a put and a frame of the plain C ring take together."""
    return [
        (1e9 / rate) / (put + 1e9 / plain)
        for rate, put, plain in zip(
            values(rows, "cost", SMALL),
            values(rows, "cost", CALLS, metric="put"),
            values(rows, "cost", SMALL, PLAIN),
            strict=False,
        )
    ]


def one_way_time(rows: Rows) -> list[float]:
    """Of what two cache lines, a put and a get take one after the other."""
    return [
        p50 / (2 * line + put + get)
        for p50, line, put, get in zip(
            values(rows, "latency", SPINNING, metric="p50"),
            values(rows, "latency", SPINNING, "C cache-line ping-pong", "p50"),
            values(rows, "cost", CALLS, metric="put"),
            values(rows, "cost", CALLS, metric="get"),
            strict=False,
        )
    ]


def cases(
    part: str, first: str, second: str, metric: str, subject: str = "shmring"
) -> Callable[[Rows], list[float]]:
    """One case of ours relative to another."""
    return lambda rows: ratios(
        values(rows, part, first, subject, metric), values(rows, part, second, subject, metric)
    )


PLAIN, WARM = "plain C ring", "plain C ring, slot freed last first"
HD_TOUCH, HD_ALL, HD_PLACE = (
    "1080p by copy, consumer touches",
    "1080p by copy, consumer reads all",
    "1080p in place, consumer touches",
)
GETS, TAKE_1_MS = "get with release in one process, 64 B", "frames that take 1 ms"
HELD = "beside held frames, 64 B"
TOUCHED, ALL_READ = "64 B, consumer touches", "64 B, consumer reads all"
SPINNING, ASLEEP = "64 B, spinning", "64 B, asleep"
IN_PLACE = "shmring, claim"
TARGETS = [
    at_least("64 B, one per call: times the best Python peer", 5, to_best_peer("cost", SMALL)),
    at_most("64 B, one per call: of a put and a frame of the plain C ring", 1.25, time_of_a_frame),
    at_least("64 B, touched: times the best peer", 1, to_best_peer("cost", TOUCHED)),
    at_least("64 B, all read: times the best peer", 1, to_best_peer("cost", ALL_READ)),
    at_least(
        "64 B, batches of 64: of the plain C ring",
        0.6,
        lambda rows: ratios(
            values(rows, "cost", BATCHES, "shmring, batches of 64"), values(rows, "cost", BATCHES, PLAIN)
        ),
    ),
    at_most("get and release: no-op calls", 4.5, to_no_op("get")),
    at_most("put of 64 B: no-op calls", 4, to_no_op("put")),
    at_most("claim to publish in a with: no-op calls", 10, to_no_op("claim")),
    at_most(".array more: no-op calls", 5.5, to_no_op("array")),
    at_most(
        "a batch frame, get: of a get of the plain C ring",
        2,
        lambda rows: ratios(
            values(rows, "cost", CALLS, metric="batch"), values(rows, "cost", CALLS, PLAIN, "get")
        ),
    ),
    at_most("64 B spinning p50: of two cache lines, a put and a get", 1.2, one_way_time),
    at_least("64 B spinning p50: times better than the best peer", 2, better_than_best_peer(SPINNING)),
    at_most(
        "64 B asleep p50: of a raw futex wake", 1.1, to_limit("latency", ASLEEP, "p50", "raw futex wake")
    ),
    at_least("64 B asleep p50: times better than the best peer", 1, better_than_best_peer(ASLEEP)),
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
        1.1,
        to_limit("latency", "1 MiB by copy, spinning", "p50", "plain C copy and a flag"),
    ),
    at_least("1080p by copy, touch: times the best peer", 1, to_best_peer("video", HD_TOUCH)),
    at_least("1080p by copy, reads all: times the best peer", 1, to_best_peer("video", HD_ALL)),
    at_least(
        "1080p by copy, touch: of the plain C ring with warm reuse",
        0.93,
        to_limit("video", HD_TOUCH, "frames", WARM),
    ),
    at_least(
        "1080p by copy, reads all: of the plain C ring with warm reuse",
        0.93,
        to_limit("video", HD_ALL, "frames", WARM),
    ),
    at_least(
        "1080p in place, touched: of 64 B in place",
        0.9,
        lambda rows: ratios(
            values(rows, "video", HD_PLACE, IN_PLACE), values(rows, "cost", "64 B in place", IN_PLACE)
        ),
    ),
    at_least(
        "fan-out 1 to 4, 1 MiB, touch: of plain C", 0.9, to_limit("fanout", f"{FAN}, touch", "GB/s", PLAIN)
    ),
    at_least(
        "fan-out 1 to 4, 1 MiB, read all: of plain C",
        0.9,
        to_limit("fanout", f"{FAN}, read all", "GB/s", PLAIN),
    ),
    at_most(
        "a stalled lossy consumer, 64 B: the producer's time a frame, of that without",
        1.1,
        metrics("disturb", "64 B, a stalled lossy consumer", "producer_ns", "producer_ns_alone"),
    ),
    *(
        at_least(f"{case}: throughput of that without", 0.98, own("disturb", case, "of_alone"))
        for case in (
            "64 B, a slow lossy viewer",
            "64 B, a frame held",
            "64 B, a frame held, 8 spare slots",
            "64 B, 8 frames held, 8 spare slots",
            "1 MiB, a frame held",
            "1 MiB, 8 frames held, 8 spare slots",
        )
    ),
    at_most(
        "a put beside as many held frames as spare slots: instructions of one without",
        1.02,
        metrics("instructions", HELD, "put_all_spares", "put"),
    ),
    at_most(
        "a member's get with release: of an ordinary consumer's",
        1.6,
        metrics("groups", GETS, "member", "get"),
    ),
    at_least(
        "4 members, frames that take 1 ms: of one member",
        3.9,
        cases("groups", f"{TAKE_1_MS}, 4 members", f"{TAKE_1_MS}, 1 member", "frames"),
    ),
    at_most("a blocked consumer", 0.2, own("idle", "a blocked consumer", "used"), "% of a core"),
    at_most("a blocked producer", 0.2, own("idle", "a blocked producer", "used"), "% of a core"),
    *(
        at_most(f"{what}, {size}: of SharedMemory", 1.5, metrics("setup", f"ring of {size}", mine, theirs))
        for size in ("1 MiB", "2 GiB")
        for what, mine, theirs in (
            ("the first attach of a process", "attach", "shared_memory"),
            ("attach again", "attach_again", "shared_memory_again"),
        )
    ),
    at_most("import: of numpy's", 0.15, metrics("setup", "import, beyond numpy", "import", "numpy")),
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
LAYOUT_1 = [  # judged in a run against another build; meant for the last one of layout 1, commit 8a1b3f1
    at_most("put: of the other build", 0.75, to_other_build("cost", CALLS, "put")),
    at_most("get and release: of the other build", 0.85, to_other_build("cost", CALLS, "get")),
    at_most("claim to publish in a with: of the other build", 0.8, to_other_build("cost", CALLS, "claim")),
    at_most(".array after the first lap: of the other build", 0.35, to_other_build("cost", CALLS, "array")),
    at_most("a frame of put_many: of the other build", 1, to_other_build("cost", CALLS, "put_many")),
    at_most("a frame of a batch: of the other build", 1, to_other_build("cost", CALLS, "batch")),
    at_least("64 B, touched: of the other build", 1.5, to_other_build("cost", TOUCHED)),
    at_least("64 B, all read: of the other build", 1.5, to_other_build("cost", ALL_READ)),
    at_most("64 B spinning p50: of the other build", 0.7, to_other_build("latency", SPINNING, "p50")),
    at_least("1080p by copy, touch: of the other build", 1.15, to_other_build("video", HD_TOUCH)),
    at_least("1080p by copy, reads all: of the other build", 1.15, to_other_build("video", HD_ALL)),
]


def judge(rows: Rows) -> list[dict[str, Any]]:
    """Every target with what was measured for it."""
    against = LAYOUT_1 if any(row["kind"] == OTHER for row in rows) else []
    return [verdict(target, rows) for target in (*TARGETS, *against)]


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
    return found | {"median": middle, "min": min(measured), "max": max(measured), "met": met}
