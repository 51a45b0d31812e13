"""What a recording says about its frames: as JSON, the same in every format."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from shmring import Ring
from shmring._attrs import fixed
from shmring._format import FrameFormat, format_of, parse_format
from shmring.attrs import RingAttrs, read_attrs
from shmring.errors import RingIncompatible
from shmring.recording._errors import RecordingCorrupt

Codec: TypeAlias = Literal["lz4", "zstd"]

FORMAT = "shmring recording 1"
UNMARKED = ""  # recordings from before pieces were marked do not say whether they are one


@dataclass(frozen=True, slots=True)
class Part:
    """What was recorded in one go: a recording has one part more for each time it was appended to.

    Attributes
    ----------
    first, frames : int
        Its frames are ``first`` to ``first + frames - 1``.
    ring : str
        Name of the ring.
    attrs : dict
        What the ring's creator said about it.
    realtime_ns, monotonic_ns : int
        The two clocks at the same moment, at the start: their difference makes timestamps dates.
    ended : str, optional
        As ``Recording.ended``.
    lost : int, optional
        Frames that the recorder did not get, those after the last recorded one included.
    """

    first: int
    frames: int
    ring: str
    attrs: Mapping[str, Any]
    realtime_ns: int
    monotonic_ns: int
    ended: str | None
    lost: int | None

    @property
    def realtime_offset_ns(self) -> int:
        """What to add to a timestamp to get nanoseconds since 1970, as it was then.

        Timestamps are taken for CLOCK_MONOTONIC, unless the attrs say ``clock="realtime"``: then it is 0.
        """
        return realtime_offset(self)


def realtime_offset(said: Part | Description) -> int:
    """Return what makes dates of its timestamps."""
    return 0 if said.attrs.get("clock") == "realtime" else said.realtime_ns - said.monotonic_ns


@dataclass(frozen=True)
class Description:
    """Frames and attrs of the ring, the clocks at the start, and in the end the totals."""

    ring: str
    frame_format: FrameFormat
    attrs: Mapping[str, Any]
    # Timestamps are CLOCK_MONOTONIC unless the producer gave its own: the pair makes them dates.
    realtime_ns: int = field(default_factory=time.time_ns)
    monotonic_ns: int = field(default_factory=time.monotonic_ns)
    piece_of: str | None = None  # the name that the rolling recording was given
    earlier: tuple[Part, ...] = ()  # before the last append; all else here is about the last part
    codec: Codec | None = None  # that compresses the frames
    unknown: tuple[tuple[int, int], ...] = ()  # first and last + 1 of frames whose index rows were lost
    ended: str | None = None
    frames: int | None = None
    lost: int | None = None

    @property
    def index_dtype(self) -> np.dtype[Any]:
        """One row for each frame: what `Batch` says of it, and the frames lost just before it."""
        fields: list[Any] = [("seq", "<u8"), ("timestamp_ns", "<i8"), ("lost", "<u8")]
        if self.frame_format.variable_rows:
            fields.append(("rows", "<u8"))
        if self.frame_format.meta_dtype is not None:
            fields.append(("meta", self.frame_format.meta_dtype))
        return np.dtype(fields)

    @property
    def convention(self) -> RingAttrs:
        """What the attrs say about the frames."""
        return read_attrs(self.attrs, self.frame_format.shape, self.frame_format.dtype)

    def to_json(self) -> str:
        """Write it as text."""
        said = {
            "format": FORMAT,
            "ring": self.ring,
            **self.frame_format.described(),
            "variable_rows": self.frame_format.variable_rows,
            "attrs": self.attrs,
            "realtime_ns": self.realtime_ns,
            "monotonic_ns": self.monotonic_ns,
            "piece_of": self.piece_of,
            "codec": self.codec,
            "earlier": [asdict(part) for part in self.earlier],
            "unknown": self.unknown,
            # The last ones, because they change when the recording ends.
            "ended": self.ended,
            "frames": self.frames,
            "lost": self.lost,
        }
        return json.dumps(said, indent=1)

    def parts(self, frames: int) -> tuple[Part, ...]:
        """Return the parts of a recording that has this many frames in all."""
        first = sum(part.frames for part in self.earlier)
        last = Part(
            first, max(0, frames - first), self.ring, self.attrs, self.realtime_ns, self.monotonic_ns,
            self.ended, self.lost,
        )  # fmt: skip
        return (*self.earlier, last)

    def after(self, before: Description, frames: int) -> Description:
        """Return the same, appended to a recording of this many frames."""
        earlier = tuple(part for part in before.parts(frames) if part.frames)
        return replace(
            self, piece_of=before.piece_of, codec=before.codec, earlier=earlier, unknown=before.unknown
        )

    def finished(self, ended: str, frames: int, lost: int) -> Description:
        """Return the same with totals."""
        return replace(self, ended=ended, frames=frames, lost=lost)

    def check_same(self, other: Description, where: str) -> None:
        """Refuse to append frames of another kind."""
        difference = other.frame_format.difference(self.frame_format)
        if difference is not None:
            raise RingIncompatible(
                f"{where} holds other frames than ring {self.ring!r} has: {difference}. Record into another "
                f"file"
            )
        if self.codec is not None and self.codec != other.codec:
            raise ValueError(
                f"{where} was begun with codec={other.codec!r}, and codec={self.codec!r} was asked for: "
                f"leave it out, or record into another file"
            )


def describe(ring: Ring, piece_of: str | None = None, codec: Codec | None = None) -> Description:
    """Describe the frames of a ring, and how they are recorded."""
    return Description(ring.name, format_of(ring), ring.attrs, piece_of=piece_of, codec=codec)


def parse(text: str | bytes, where: str) -> Description:
    """Read what `Description.to_json` wrote."""
    try:
        said = fixed(json.loads(text))
        if said["format"] != FORMAT:
            raise ValueError(f"format {said['format']!r}")
        return Description(
            ring=said["ring"],
            frame_format=parse_format(said, said["variable_rows"]),
            attrs=said["attrs"],
            realtime_ns=said["realtime_ns"],
            monotonic_ns=said["monotonic_ns"],
            piece_of=said.get("piece_of", UNMARKED),
            codec=said.get("codec"),
            earlier=tuple(Part(**part) for part in said.get("earlier", ())),
            unknown=tuple((first, end) for first, end in said.get("unknown", ())),
            ended=said["ended"],
            frames=said["frames"],
            lost=said["lost"],
        )
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise RecordingCorrupt(f"{where} does not describe a recording of shmring: {error!r}") from None
