"""Types of options and arguments, with messages that say how to write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from shmring._core import LABEL_BYTES
from shmring._ring import check_group

PLACES = 16  # for consumers, in the rings that commands create
UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """The value that a function makes of a word; its ValueError is the message."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a word; anything else is a default, parsed already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except UnicodeEncodeError:
            self.fail(f"{value!r} is not UTF-8", param, ctx)
        except (ValueError, TypeError) as error:
            self.fail(str(error), param, ctx)


def whole(name: str, least: int, what: str, most: int = 10**18) -> Parsed:
    """Return the type of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not least <= int(text) <= most:
            raise ValueError(f"{text!r} is not {what}")
        return int(text)

    return Parsed(name, parse)


def _seconds(text: str, least: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf or (least == 0 and text.startswith("-")):
        raise ValueError(f"{text!r} is not {what}")
    return value


def _shape(text: str) -> tuple[int, ...]:
    if text in ("", "()"):
        return ()
    if not re.fullmatch(r"[1-9]\d*([,x][1-9]\d*)*,?", text):
        raise ValueError(f"{text!r} is not a shape; write 720,1280,3, or () for scalar frames")
    return tuple(int(length) for length in re.split("[,x]", text.rstrip(",")))


def _picture(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not match:
        raise ValueError(f"{text!r} is not the size of a picture; write width and height: 1280x720")
    return int(match[1]), int(match[2])


def _pix_fmt(text: str) -> str:
    from shmring.video import PixelLayout

    return PixelLayout(text, 1, 1).pix_fmt


def _dtype(text: str) -> np.dtype[Any]:
    try:
        return np.dtype(text)
    except Exception:  # numpy parses this as Python, and raises whatever comes of that
        raise ValueError(f"{text!r} is not a dtype of numpy; write it as u1, <i2, f4, S16") from None


def _label(text: str) -> str:
    nbytes = len(text.encode())
    if nbytes > LABEL_BYTES:
        raise ValueError(f"a label has at most {LABEL_BYTES} bytes, not {nbytes}: {text!r}")
    return text


def _group(text: str) -> str:
    check_group(text, lossless=True, at_most_once=False)
    return text


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([kMGT]?|[KMGT]i)B?", text)
    nbytes = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if nbytes < 1:
        raise ValueError(f"{text!r} is not a size; write it as 500MB, 2GB or 4GiB")
    return nbytes


COUNT = whole("count", 1, "a whole number, 1 or more")
CONSUMERS = whole("count", 1, f"a number of consumers, 1 to {PLACES}", most=PLACES)
SLOTS = whole("slots", 2, "a number of slots, 2 or more")
SPARES = whole("spares", 0, "a number of spare slots")
POSITIVE = Parsed("number", lambda text: _seconds(text, 5e-324, "a number above 0"))
SECONDS = Parsed("seconds", lambda text: _seconds(text, 0, "a number of seconds"))
SHAPE = Parsed("shape", _shape)
DTYPE = Parsed("dtype", _dtype)
PICTURE = Parsed("size", _picture)
PIX_FMT = Parsed("format", _pix_fmt)
LABEL = Parsed("label", _label)
GROUP = Parsed("group", _group)
SIZE = Parsed("size", _size)
