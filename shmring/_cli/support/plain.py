"""Plain values as JSON takes them: what `--json` prints, with the same keys in every command."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from shmring import ConsumerStats, ProducerStats
from shmring._cli.support import processes
from shmring._cli.support.rates import Rates, consumer_key
from shmring._inventory import Found, RingFacts

if TYPE_CHECKING:
    from shmring.recording import Summary


def block(found: Found, rates: Rates | None = None) -> dict[str, Any]:
    """Describe a block; the keys of a ring where it is a readable one, else `problem`."""
    described: dict[str, Any] = {
        "name": found.name,
        "state": found.state,
        "nbytes": found.nbytes,
        "owner": found.owner,
        "mode": f"{found.mode:#o}",
    }
    if found.ring is None:
        return {**described, "problem": found.problem}
    return {**described, **_ring(found.ring, rates)}


def recording(summary: Summary) -> dict[str, Any]:
    """Describe what was recorded."""
    return {**dataclasses.asdict(summary), "paths": [str(path) for path in summary.paths]}


def _ring(ring: RingFacts, rates: Rates | None) -> dict[str, Any]:
    stats = ring.stats
    return {
        "dtype": _dtype(stats.dtype),
        "shape": list(stats.shape),
        "slots": stats.slots,
        "spares": stats.spares,
        "spares_in_use": stats.spares_in_use,
        "frame_nbytes": ring.frame_nbytes,
        "variable_rows": ring.variable_rows,
        "meta": None if ring.meta_dtype is None else _dtype(ring.meta_dtype),
        "attrs": ring.attrs,
        "created_ns": ring.created_ns,
        "creator_pid": ring.creator_pid,
        "published": stats.published,
        "next_seq": stats.next_seq,
        "dropped": stats.dropped,
        "swaps": stats.swaps,
        "rate": None if rates is None else round(rates.published, 3),
        "producer": {
            **dataclasses.asdict(stats.producer),
            **_process(stats.producer, alive=stats.producer.state == "live"),
        },
        "places": ring.places,
        "consumers": [
            {
                **dataclasses.asdict(one),
                **_process(one, alive=one.alive),
                "rate": None if rates is None else _rounded(rates.delivered.get(consumer_key(one))),
                "lost_rate": None if rates is None else _rounded(rates.lost.get(consumer_key(one))),
            }
            for one in stats.consumers
        ],
        "groups": [dataclasses.asdict(one) for one in stats.groups],
    }


def _process(who: ProducerStats | ConsumerStats, *, alive: bool) -> dict[str, str]:
    known = processes.describe(who.pid, who.start_time, alive=alive)
    return {"user": known.user, "status": known.status}


def _dtype(dtype: np.dtype[Any]) -> Any:
    return np.lib.format.dtype_to_descr(dtype)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
