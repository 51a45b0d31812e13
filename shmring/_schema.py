"""A new ring's geometry, and its schema: what the block says about the frames, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shmring import _core, errors
from shmring._dtypes import brief
from shmring._format import FrameFormat, parse_format

__all__ = ["check_above_zero", "check_int", "check_slots", "choose_geometry", "read_schema"]

MAX_LEVELS = 100  # of attrs: an attacher deep in a stack of calls must be able to read them, too


def choose_geometry(
    frame_format: FrameFormat, slots: int, spares: int, consumers: int, attrs: Mapping[str, Any] | None
) -> _core.Geometry:
    """Return the geometry that was asked for; TypeError or ValueError if no ring can have it."""
    slots = check_slots(slots)
    spares = check_int("spares", spares, 0, _core.MAX_SLOTS - slots)
    consumers = check_int("consumers", consumers, 1, _core.MAX_CONSUMERS)
    return _core.Geometry(frame_format, slots, spares, consumers, write_schema(frame_format, attrs))


def check_int(what: str, value: Any, least: int, most: int | None = None) -> int:
    """Return the value as an int; TypeError or ValueError if it is none, or out of range."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if value < least or (most is not None and value > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{what} must be {wanted}, not {value}")
    return int(value)


def check_slots(slots: Any) -> int:
    """Return how many slots a ring is to have; TypeError or ValueError if none can."""
    return check_int("slots", slots, 2, _core.MAX_SLOTS)


def check_above_zero(what: str, value: Any, unless: str = "") -> None:
    """Raise unless the value is a number above 0; `unless` says what None means."""
    wanted = f"{what} must be a number above 0{unless}, not {value!r}"
    try:
        above = bool(value > 0)
    except TypeError:
        raise TypeError(wanted) from None
    if not above:
        raise ValueError(wanted)


def write_schema(frame_format: FrameFormat, attrs: Mapping[str, Any] | None) -> bytes:
    """Describe frames as JSON; dtypes as in the header of a .npy file."""
    import json  # a third of the time that `import shmring` would take

    if attrs is not None and not isinstance(attrs, Mapping):
        raise TypeError(f"attrs must be a mapping of str to what JSON can hold, not {attrs!r:.100}")
    described = frame_format.described()
    try:
        text = json.dumps({**described, "attrs": dict(attrs or {})}, allow_nan=False)
        too_many_levels = levels_of(attrs or {}) > MAX_LEVELS
    except RecursionError:
        text, too_many_levels = "", True
    except (TypeError, ValueError) as error:
        raise type(error)(f"attrs must be a mapping of str to what JSON can hold: {error}") from None
    if too_many_levels:
        raise ValueError(f"attrs are nested too deeply: at most {MAX_LEVELS} levels, so flatten them")
    schema = text.encode()
    if len(schema) > _core.MAX_SCHEMA:
        raise ValueError(
            f"dtype, meta and attrs take {len(schema)} bytes to describe, at most {_core.MAX_SCHEMA} fit in "
            f"a ring: shorten the names of the fields, or the attrs"
        )
    return schema


def levels_of(value: Any) -> int:
    """Return how deep mappings and lists are nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return 0
    return 1 + max(map(levels_of, value), default=0)


def read_schema(block: _core.Block) -> tuple[FrameFormat, dict[str, Any]]:
    """Read what `write_schema` wrote; RingCorrupt if it does not fit the block's geometry."""
    import json

    try:
        found = json.loads(block.schema.decode())
        attrs = dict(found["attrs"])
        if attrs:
            json.dumps(attrs, allow_nan=False)
        frame_format = parse_format(found, block.row_bytes != 0)
        if frame_format.frame_bytes != block.frame_bytes or frame_format.meta_bytes != block.meta_bytes:
            raise ValueError("frame size")
        if frame_format.row_bytes != block.row_bytes:
            raise ValueError("row size")
        return frame_format, attrs
    except Exception as error:  # what json, ast and numpy raise for bytes that anybody may have written
        raise errors.RingCorrupt(
            f"the schema of ring {block.name!r} does not fit its header ({brief(str, error)}): "
            f"something overwrote it. Recreate the ring"
        ) from None
