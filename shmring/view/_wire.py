"""What goes over a WebSocket: JSON that every browser reads, and frames with a header of JSON."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from shmring._words import clean

__all__ = ["pack", "plain", "text"]

EXACT = 2**53  # JavaScript has no whole numbers beyond
ALIGNMENT = 16
SHORT = 200  # characters of a text, and elements of an array, that a page is shown


def text(message: dict[str, Any]) -> str:
    """Write a message as JSON; NaN and infinities, which JSON does not have, become null."""
    try:
        return json.dumps(message, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(message), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def pack(header: dict[str, Any], payload: np.ndarray[Any, Any] | bytes = b"") -> bytes:
    """Return a binary message: the header's length, the header, and the payload, aligned for typed arrays."""
    said = text(header).encode()
    padding = -(4 + len(said)) % ALIGNMENT
    data = payload if isinstance(payload, bytes) else np.ascontiguousarray(payload).reshape(-1).view("u1")
    return b"".join((struct.pack("<I", len(said)), said, bytes(padding), data))


def plain(value: Any) -> Any:
    """Return a value of a frame as JSON has it; what JSON has not, as text."""
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return plain(value[()])
        if value.size > SHORT:
            return f"array of shape {value.shape}"
        return [plain(item) for item in value]
    if isinstance(value, np.void):
        if value.dtype.names is not None:
            return {name: plain(value[name]) for name in value.dtype.names}
        return _short(value.tobytes().hex())
    if isinstance(value, np.bytes_ | bytes):
        return _short(clean(value.decode("latin-1")))
    if isinstance(value, np.str_ | str):
        return _short(clean(str(value)))
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.datetime64 | np.timedelta64 | np.complexfloating):
        return str(value)
    if isinstance(value, np.integer):
        return int(value) if abs(int(value)) <= EXACT else str(int(value))
    if isinstance(value, np.floating):
        return float(value) if np.isfinite(value) and np.isfinite(float(value)) else str(value)
    return _short(str(value))


def _short(said: str) -> str:
    return said if len(said) <= SHORT else said[: SHORT - 1] + "…"
