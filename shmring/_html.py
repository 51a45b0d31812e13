"""What rings, statistics and frames show in a notebook. Nothing here ever raises, or holds a slot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec

from shmring import _core, errors
from shmring._observer import Observer
from shmring._words import clean

if TYPE_CHECKING:
    from typing import Protocol

    import numpy.typing as npt

    from shmring._core import Batch, Frame
    from shmring._observer import FrameCopy
    from shmring._ring import Ring
    from shmring._stats import RingStats
    from shmring.attrs import Described

    class Source(Described, Protocol):
        """A ring, or what is known about the one that a copy is of."""

        @property
        def name(self) -> str: ...


__all__ = ["batch", "frame", "ring", "stats"]

SIDE = 256  # pixels of a thumbnail, at most
SMALLEST = 96  # on the screen: smaller frames are enlarged
STRIP = 8  # frames of a batch that are shown
MOST_BYTES = 256 << 20  # of a frame that is copied for a look at a ring
ROW = "display:flex;flex-wrap:wrap;gap:1em;align-items:center"
# Of the table of consumers: the fields of ConsumerStats that fit beside each other.
COLUMNS = ("label", "policy", "lag", "held", "delivered", "lost", "skipped", "pid", "command")

_P = ParamSpec("_P")


def _or_text(make: Callable[_P, str]) -> Callable[_P, str | None]:
    """Return None where something goes wrong: notebooks then show the repr."""

    @functools.wraps(make)
    def made(*args: _P.args, **options: _P.kwargs) -> str | None:
        try:
            return make(*args, **options)
        except Exception:
            return None

    return made


@_or_text
def frame(held: Frame | FrameCopy, source: Source) -> str:
    """Show a frame: what it is, and a thumbnail if it is an image."""
    return _beside(_thumbnails([held.array], source), _text(repr(held)))


@_or_text
def batch(held: Batch, source: Source) -> str:
    """Show a batch: what it is, and thumbnails of its first frames if they are images."""
    return _beside(
        _thumbnails([held.array[n] for n in range(min(len(held), STRIP))], source), _text(repr(held))
    )


@_or_text
def ring(shown: Ring) -> str:
    """Show a ring: what it is, its newest frame if it is an image, and who takes part."""
    if shown.closed:
        return _beside("", _text(repr(shown)))
    return _beside(_newest(shown), _text(repr(shown)) + _participants(shown.stats()))


@_or_text
def stats(shown: RingStats) -> str:
    """Show statistics: the counters, and a table of consumers."""
    return _text(repr(shown)) + _participants(shown)


def _newest(shown: Ring) -> str:
    if shown.frame_nbytes > MOST_BYTES or _kind(shown) != "image":
        return ""
    with Observer._open(shown, _core.reopen(shown._fd, False)) as observer:
        try:
            return _thumbnails([observer.latest(timeout=0).array], shown)
        except (errors.ShmringError, MemoryError):  # there is none, or no room for it
            return ""


def _kind(source: Source) -> str:
    from shmring.attrs import read

    return read(source).kind


def _thumbnails(arrays: Iterable[npt.NDArray[Any]], source: Source) -> str:
    """Make an img element of each frame that is an image."""
    from base64 import b64encode

    from shmring._picture import picture, png
    from shmring.attrs import read

    said = read(source)
    if said.kind != "image":
        return ""
    made = []
    for pixels in (picture(array, said, SIDE) for array in arrays):
        if pixels is None:
            continue
        height, width = pixels.shape[:2]
        times = max(1, SMALLEST // max(height, width))
        data = b64encode(png(pixels)).decode()
        made.append(
            f'<img alt="frame of {_escaped(source.name)}" width="{width * times}" height="{height * times}" '
            f'style="image-rendering:pixelated" src="data:image/png;base64,{data}">'
        )
    return "".join(made)


def _participants(shown: RingStats) -> str:
    producer = shown.producer
    who = f", pid {producer.pid}  {producer.command}" if producer.state != "none" else ""
    lines = [_text(f"producer {producer.state}{who}".rstrip())]
    if not shown.consumers:
        return "".join([*lines, _text("no consumers")])
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = [
        "".join(f"<td>{_escaped(getattr(one, name))}</td>" for name in COLUMNS) for one in shown.consumers
    ]
    lines.append(f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
    return "".join(lines)


def _beside(pictures: str, text: str) -> str:
    if not pictures:
        return text
    return f'<div style="{ROW}">{pictures}<div>{text}</div></div>'


def _text(text: str) -> str:
    return f"<div>{_escaped(text)}</div>"


def _escaped(value: object) -> str:
    from html import escape

    return escape(clean(str(value)))
