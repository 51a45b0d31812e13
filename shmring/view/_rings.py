"""The rings of this machine as a page lists them, looked at once a second for all pages together."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import numpy as np

from shmring import RingNotFound, _names
from shmring._cli.support.rates import consumer_key
from shmring._cli.support.top_model import Line, Model
from shmring._inventory import Found, look, look_at_all
from shmring._words import clean
from shmring.view._kinds import layout_of
from shmring.view._tables import fields_of

__all__ = ["Watcher", "describe", "id_of", "name_of"]

INTERVAL = 1.0


def id_of(name: str) -> str:
    """Return a ring's name as an address has it: any bytes, percent-encoded."""
    return quote(os.fsencode(name), safe="")


def name_of(identifier: str) -> str:
    """Return the name that `id_of` made an id of.

    Raises
    ------
    ValueError
        No ring can have it.
    """
    return _names.check_name(os.fsdecode(unquote_to_bytes(identifier)))


class Watcher:
    """Looks at the rings, as long as somebody asks."""

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self._model = Model()
        self._looked: asyncio.Task[dict[str, Any]] | None = None
        self._looked_at = 0.0

    async def look(self) -> dict[str, Any]:
        """Return what is there now: one look serves all who ask at about the same time."""
        now = time.monotonic()
        if self._looked is None or now - self._looked_at > INTERVAL / 2:
            self._looked, self._looked_at = asyncio.create_task(self._look()), now
        return await asyncio.shield(self._looked)

    async def _look(self) -> dict[str, Any]:
        found = await asyncio.to_thread(self._find)
        self._model.update(found)
        lines = {line.found.name: line for line in self._model.lines.values()}
        shown = [one for one in found if one.is_ring or self._names is not None]
        rings = [describe(one, lines.get(one.name)) for one in shown]
        if self._names is not None:
            there = {one.name for one in found}
            rings += [_missing(name) for name in self._names if name not in there]
        return {"rings": rings, "others": len(found) - len(shown)}

    def _find(self) -> list[Found]:
        if self._names is None:
            return look_at_all()
        found = []
        for name in self._names:
            try:
                found.append(look(name))
            except RingNotFound:
                continue
        return found


def _missing(name: str) -> dict[str, Any]:
    return {
        "name": clean(name),
        "id": id_of(name),
        "state": "missing",
        "message": f"there is no ring {clean(name)!r} yet",
        "kind": None,
        "waits_for": "a ring of that name",
    }


def describe(found: Found, line: Line | None = None) -> dict[str, Any]:
    """Return what a page is told of a ring."""
    described: dict[str, Any] = {
        "name": clean(found.name),
        "id": id_of(found.name),
        "state": found.state,
        "message": clean(found.problem) or None,
        "kind": None,
        "nbytes": found.nbytes,
        "owner": found.owner,
        "waits_for": None,
    }
    ring = found.ring
    if ring is None:
        return described
    stats = ring.stats
    line = line or Line(found, ring)
    if found.state == "live" and stats.producer.state != "live":
        described["state"] = stats.producer.state
    described["message"] = clean(stats.producer.failure) or None
    if stats.producer.state == "none":
        described["waits_for"] = "a producer"
    described |= {
        "kind": layout_of(_Described(stats.shape, stats.dtype, ring.attrs)).kind,
        "shape": list(stats.shape),
        "dtype": fields_of(stats.dtype),
        "meta": None if ring.meta_dtype is None else fields_of(ring.meta_dtype),
        "slots": stats.slots,
        "spares": stats.spares,
        "frame_nbytes": ring.frame_nbytes,
        "frames": stats.published,
        "dropped": stats.dropped,
        "rate": line.rate,
        "nbytes_rate": line.bandwidth,
        "fill": line.fill,
        "lost": line.lost,
        "producer": _producer(line),
        "consumers": _consumers(line),
        "attrs": ring.attrs,
    }
    return described


@dataclass(frozen=True, slots=True)
class _Described:
    """What the attrs of a ring are read with."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]


def _producer(line: Line) -> dict[str, Any] | None:
    producer = line.ring.stats.producer
    if producer.state == "none":
        return None
    return {
        "pid": producer.pid,
        "command": producer.command,
        "state": producer.state,
        "epoch": producer.epoch,
    }


def _consumers(line: Line) -> list[dict[str, Any]]:
    rates = line.rates
    return [
        {
            "place": one.place,
            "label": clean(one.label),
            "pid": one.pid,
            "command": one.command,
            "policy": one.policy,
            "group": None if one.group is None else clean(one.group),
            "lag": one.lag,
            "held": one.held,
            "lost": one.lost,
            "skipped": one.skipped,
            "delivered": one.delivered,
            "rate": rates.delivered.get(consumer_key(one), 0.0) if rates else 0.0,
            "alive": one.alive,
        }
        for one in line.ring.stats.consumers
    ]
