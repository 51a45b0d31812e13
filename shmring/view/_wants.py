"""What a page asks for, checked: pages are of any version, and others can send anything."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["BadMessage", "Want", "numbers", "parse"]

LARGEST = 1 << 31
MODES = ("image", "signal", "table")


class BadMessage(ValueError):
    """What a page sent is not understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Want:
    """What a panel shows: `region` is (y0, y1, x0, x1) of the frame, None for all of it."""

    width: int = 1280
    height: int = 960
    region: tuple[int, int, int, int] | None = None
    rotate: int = 0
    quality: int | None = None
    rate: float | None = None
    channel: int | None = None
    mode: Literal["image", "signal", "table"] | None = None
    seconds: float = 5.0


def parse(text: str) -> dict[str, Any]:
    """Read a message of a page.

    Raises
    ------
    BadMessage
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage("a message is a JSON object; this is not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadMessage('a message is a JSON object with a "type"')
    return message


def want_of(message: dict[str, Any], before: Want) -> Want:
    """Return what a page wants from now on; what it leaves out stays.

    Raises
    ------
    BadMessage
    """
    found: dict[str, Any] = {}
    for key, least, most in (("width", 1, 1 << 15), ("height", 1, 1 << 15), ("rotate", -360, 360)):
        if key in message:
            found[key] = int(_number(message[key], key, least, most))
    for key, least, most in (("quality", 1, 95), ("channel", 0, LARGEST)):
        if key in message:
            found[key] = None if message[key] is None else int(_number(message[key], key, least, most))
    if "rate" in message:
        found["rate"] = None if message["rate"] is None else _number(message["rate"], "rate", 1e-3, 1e4)
    if message.get("seconds") is not None:
        found["seconds"] = _number(message["seconds"], "seconds", 1e-6, 3600)
    if "region" in message:
        region = message["region"]
        found["region"] = None if region is None else _region(region)
    if "mode" in message:
        if message["mode"] is not None and message["mode"] not in MODES:
            raise BadMessage(f"mode is one of {', '.join(MODES)} or null")
        found["mode"] = message["mode"]
    return replace(before, **found)


def _region(value: Any) -> tuple[int, int, int, int]:
    y0, y1, x0, x1 = (int(one) for one in numbers(value, "region", 4, least=0))
    if y1 <= y0 or x1 <= x0:
        raise BadMessage("a region is [y0, y1, x0, x1] with y0 < y1 and x0 < x1")
    return y0, y1, x0, x1


def numbers(value: Any, what: str, count: int, least: float = -LARGEST) -> list[float]:
    """Return so many numbers of a list.

    Raises
    ------
    BadMessage
    """
    if not isinstance(value, list) or len(value) != count:
        raise BadMessage(f"{what} has {count} numbers")
    return [_number(one, what, least, LARGEST) for one in value]


def _number(value: Any, what: str, least: float, most: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise BadMessage(f"{what} is a number from {least:g} to {most:g}")
