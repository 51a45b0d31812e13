"""One convention for the attrs of rings: what viewers, recorders and adapters can rely on.

`describe` makes such attrs, `check` looks for mistakes in them, `read` returns what any ring says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard

import numpy as np

from shmring._words import count

if TYPE_CHECKING:
    from typing import Protocol

    import numpy.typing as npt

    class Described(Protocol):
        """A ring, a recording, or what `rings` lists."""

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def dtype(self) -> np.dtype[Any]: ...
        @property
        def attrs(self) -> Mapping[str, Any]: ...


__all__ = ["Axis", "RingAttrs", "check", "describe", "read"]

Kind: TypeAlias = Literal["image", "signal", "table"]

KEYS = ("axes", "frame_rate", "color", "unit", "range", "clock", "source")
CHANNELS = {"gray": 1, "rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}
BAYER = ("bayer_rggb", "bayer_bggr", "bayer_grbg", "bayer_gbrg")
CLOCKS = ("monotonic", "realtime", "device")

# Names of axes that say what the axis is.
TYPES = {
    **dict.fromkeys(("x", "y", "z", "row", "column", "height", "width", "depth"), "space"),
    **dict.fromkeys(("t", "time", "sample"), "time"),
    **dict.fromkeys(("c", "channel", "color", "colour"), "channel"),
}
# Names of axes that say which side of a picture the axis is, wherever it comes in the shape.
VERTICAL, HORIZONTAL = ("y", "row", "height"), ("x", "column", "width")
# OME writes these units out, which people shorten.
SHORT_UNITS = {
    "space": {"pm": "picometer", "nm": "nanometer", "um": "micrometer", "µm": "micrometer",
              "\N{GREEK SMALL LETTER MU}m": "micrometer", "micron": "micrometer", "mm": "millimeter",
              "cm": "centimeter", "m": "meter", "km": "kilometer", "Å": "angstrom", "in": "inch"},
    "time": {"ps": "picosecond", "ns": "nanosecond", "us": "microsecond", "µs": "microsecond",
             "\N{GREEK SMALL LETTER MU}s": "microsecond", "ms": "millisecond", "s": "second",
             "sec": "second", "min": "minute", "h": "hour"},
}  # fmt: skip

FEW_CHANNELS = 16  # a table of two axes is taken for a signal if one has so few entries at most,
MANY_SAMPLES = 8  # and the other so many times more


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a frame, in the words of OME.

    Attributes
    ----------
    name : str
        ``"y"``, ``"x"``, ``"channel"``, ``"time"``, …; unique within a frame.
    type : str
        ``"space"``, ``"time"``, ``"channel"``, or a word of yours. Default: what the name says, if it is x,
        y, z, row, column, height, width or depth; t, time or sample; c, channel, color or colour.
    unit : str
        Of `scale`: written out for space and time (``"micrometer"``, ``"second"``).
    scale : float
        From one entry to the next.
    labels : tuple of str
        A name for each entry, of a channel axis above all.
    """

    name: str
    type: str = ""
    unit: str = ""
    scale: float = 1.0
    labels: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what attrs hold: without what says nothing."""
        said: dict[str, Any] = {"name": self.name}
        if self.type:
            said["type"] = self.type
        if self.unit:
            said["unit"] = self.unit
        if self.scale != 1.0:
            said["scale"] = self.scale
        labels: Any = self.labels
        if labels is not None and len(labels):
            said["labels"] = labels if isinstance(labels, str) else list(labels)  # check refuses a str
        return said


@dataclass(frozen=True, slots=True)
class RingAttrs:
    """What a ring says about its frames, completed by guesses: from `read`.

    Attributes
    ----------
    kind : {"image", "signal", "table"}
        How to show a frame: as a picture, as traces, or as numbers.
    axes : tuple of Axis
        One for each axis of a frame.
    color : str or None
        Of images: ``"gray"``, ``"rgb"``, ``"bgr"``, ``"rgba"``, ``"bgra"`` or a Bayer pattern such as
        ``"bayer_rggb"``.
    frame_rate : float or None
        Frames per second, as planned.
    unit : str or None
        Of the values.
    range : tuple of float or None
        Lowest and highest value that can occur.
    clock : {"monotonic", "realtime", "device"}
        Of the timestamps.
    source : str or None
        What the frames come from.
    guessed : frozenset of str
        Which of these the attrs do not say: all that they leave open and that is not None.
    problems : tuple of str
        What in the attrs is not as the convention has it, and was ignored or put right.
    """

    kind: Kind
    axes: tuple[Axis, ...]
    color: str | None = None
    frame_rate: float | None = None
    unit: str | None = None
    range: tuple[float, float] | None = None
    clock: str = "monotonic"
    source: str | None = None
    guessed: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    def axis_of(self, kind: str) -> int | None:
        """Return the number of the first axis of a type, ``"channel"`` say; None if there is none."""
        return next((number for number, axis in enumerate(self.axes) if axis.type == kind), None)

    @property
    def sides(self) -> tuple[int, int] | None:
        """The numbers of the axes that are the height and the width of a picture; None if there are none.

        Axes named y and x (or row and column, height and width) are these, in whatever order the shape has
        them; without such names, it is the last two of type space.
        """
        space = [number for number, axis in enumerate(self.axes) if axis.type == "space"]
        down, across = (
            next((number for number in space if self.axes[number].name in names), None)
            for names in (VERTICAL, HORIZONTAL)
        )
        if down is not None and across is not None:
            return down, across
        return (space[-2], space[-1]) if len(space) >= 2 else None


def describe(
    *,
    axes: Iterable[Axis | str | Mapping[str, Any]] | None = None,
    frame_rate: float | None = None,
    color: str | None = None,
    unit: str | None = None,
    range: Sequence[float] | None = None,
    clock: str | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Make attrs for ``Ring.create(attrs=...)`` that viewers and recorders understand.

    Parameters
    ----------
    axes : iterable of Axis, str or mapping, optional
        One for each axis of a frame, in the order of its shape; a str is a name.
    frame_rate : float, optional
        Frames per second.
    color : str, optional
        ``"gray"``, ``"rgb"``, ``"bgr"``, ``"rgba"``, ``"bgra"``, ``"bayer_rggb"``, ``"bayer_bggr"``,
        ``"bayer_grbg"`` or ``"bayer_gbrg"``.
    unit : str, optional
        Of the values: ``"V"``, ``"count"``.
    range : pair of float, optional
        Lowest and highest value that can occur: ``(0, 4095)`` for 12 bits in uint16.
    clock : {"monotonic", "realtime", "device"}, optional
        Of the timestamps: CLOCK_MONOTONIC, which they are unless you give your own; nanoseconds since
        1970; or nanoseconds of a device since a moment of its own.
    source : str, optional
        What the frames come from: the model and serial number of a camera.

    Returns
    -------
    dict
        Add keys of your own as you like.

    Raises
    ------
    ValueError
        Something is not as the convention has it.

    Examples
    --------
    >>> from shmring import attrs
    >>> attrs.describe(axes=["y", attrs.Axis("x", unit="micrometer", scale=0.65)], range=(0, 4095))
    {'axes': [{'name': 'y', 'type': 'space'}, {'name': 'x', 'type': 'space', 'unit': 'micrometer',
     'scale': 0.65}], 'range': [0, 4095]}
    """
    said: dict[str, Any] = {
        "axes": None if axes is None else _listed(axes),
        "frame_rate": _plain(frame_rate),
        "color": color,
        "unit": unit,
        "range": None if range is None else _listed(range),
        "clock": clock,
        "source": source,
    }
    said = {key: value for key, value in said.items() if value is not None}
    check(said)
    if "axes" in said:
        said["axes"] = [axis.as_dict() for axis in _Reader(said, None, None).axes() or ()]
    return said


def check(
    attrs: Mapping[str, Any], shape: tuple[int, ...] | None = None, dtype: npt.DTypeLike | None = None
) -> None:
    """Look for mistakes in attrs. Keys that the convention does not have are yours, and not looked at.

    Parameters
    ----------
    attrs : mapping
    shape : tuple of int, optional
        Of a frame: then the number of axes and the color are compared with it, too.
    dtype : dtype, optional
        Of a frame: then the range is compared with it, too.

    Raises
    ------
    ValueError
        The message has all the mistakes.
    """
    reader = _Reader(attrs, shape, None if dtype is None else np.dtype(dtype))
    reader.everything()
    if reader.problems:
        raise ValueError("; ".join(reader.problems))


def read(ring: Described) -> RingAttrs:
    """Return what a ring says about its frames, with guesses where it says nothing.

    What is not as the convention has it is ignored, and listed as `RingAttrs.problems`: this never raises,
    whatever another program wrote.

    Parameters
    ----------
    ring : Ring, Recording or RingInfo
        Anything with `shape`, `dtype` and `attrs`.

    Returns
    -------
    RingAttrs
    """
    return read_attrs(ring.attrs, ring.shape, ring.dtype)


def read_attrs(attrs: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> RingAttrs:
    """Do what `read` does, for frames that are no ring yet."""
    reader = _Reader(attrs, shape, dtype)
    said = reader.everything()
    axes, color = said.pop("axes"), said.pop("color")
    types = [""] * len(shape) if axes is None else [axis.type for axis in axes]
    kind = _kind_by_dtype(dtype) or _kind_by_types(types)
    guessed = {"kind"} if kind is None and color is None else set()
    kind = kind or ("image" if color else _kind_by_shape(shape, types))
    types = _complete(shape, types, kind, color)
    if axes is None:
        guessed.add("axes")
        axes = tuple(map(Axis, _names(types), types))
    else:
        axes = tuple(replace(axis, type=one) for axis, one in zip(axes, types, strict=True))
    if kind == "image" and color is None:
        color = {3: "rgb", 4: "rgba"}.get(_channels(shape, types), "gray")
        guessed.add("color")
    if said["clock"] is None:
        said["clock"] = "monotonic"
        guessed.add("clock")
    return RingAttrs(
        kind, axes, color if kind == "image" else None, **said,
        guessed=frozenset(guessed), problems=tuple(reader.problems),
    )  # fmt: skip


# ---- reading what is there


@dataclass
class _Reader:
    """Reads attrs key by key, and collects what is wrong."""

    attrs: Any
    shape: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    problems: list[str] = field(default_factory=list)

    def everything(self) -> dict[str, Any]:
        """Return the value of every key of the convention; None where there is none, or a wrong one."""
        if not isinstance(self.attrs, Mapping):
            self._wrong(f"attrs must be a mapping, not {self.attrs!r:.60}")
            self.attrs = {}
        axes = self.axes()
        return {
            "axes": axes,
            "frame_rate": self._frame_rate(),
            "color": self._color(axes),
            "unit": self._text("unit"),
            "range": self._range(),
            "clock": self._word("clock", CLOCKS),
            "source": self._text("source"),
        }

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)

    def axes(self) -> tuple[Axis, ...] | None:
        given = self.attrs.get("axes")
        if given is None:
            return None
        if not isinstance(given, list | tuple):
            self._wrong(f"axes must be a list with one entry for each axis of a frame, not {given!r:.60}")
            return None
        if self.shape is not None and len(given) != len(self.shape):
            self._wrong(
                f"axes lists {len(given)} for frames of shape {self.shape}, which have {len(self.shape)}"
            )
            return None
        axes = [self._axis(number, one) for number, one in enumerate(given)]
        names = [axis.name for axis in axes]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            self._wrong(f"two axes have the name {twice!r}")
            return None
        return tuple(axes)

    def _axis(self, number: int, given: Any) -> Axis:
        """Read one axis; what is wrong about it is left out."""
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping):
            self._wrong(
                f"axes[{number}] must be a name or a mapping with name, type, unit, scale, not {given!r:.60}"
            )
            given = {}
        name = given.get("name")
        if not _is_text(name):
            if given:
                self._wrong(f"axes[{number}] has no name: {dict(given)!r:.60}")
            name = f"axis_{number + 1}"
        where = f"axis {name!r}"
        kind = given.get("type")
        if kind is not None and not _is_text(kind):
            self._wrong(f"type of {where} must be a word like 'space', not {kind!r:.60}")
            kind = None
        kind = kind or TYPES.get(name, "")
        return Axis(
            name, kind, self._unit(given.get("unit"), kind, where), self._scale(given.get("scale"), where),
            self._labels(given.get("labels"), number, where),
        )  # fmt: skip

    def _unit(self, unit: Any, kind: str, where: str) -> str:
        if unit is None:
            return ""
        if not _is_text(unit):
            self._wrong(f"unit of {where} must be a word like 'micrometer', not {unit!r:.60}")
            return ""
        written_out = SHORT_UNITS.get(kind, {}).get(unit)
        if written_out is not None:
            self._wrong(f"unit of {where}: write {written_out!r}, not {unit!r}")
            return written_out
        return str(unit)

    def _scale(self, scale: Any, where: str) -> float:
        if scale is None:
            return 1.0
        if not _is_number(scale) or scale <= 0:
            self._wrong(f"scale of {where} must be a number above 0, not {scale!r:.60}")
            return 1.0
        return float(scale)

    def _labels(self, labels: Any, number: int, where: str) -> tuple[str, ...]:
        if labels is None:
            return ()
        if not isinstance(labels, list | tuple) or not all(map(_is_text, labels)):
            self._wrong(f"labels of {where} must be a list of names, not {labels!r:.60}")
            return ()
        if self.shape is not None and len(labels) != self.shape[number]:
            self._wrong(f"{where} has {count(len(labels), 'label')} for its {self.shape[number]} entries")
            return ()
        return tuple(labels)

    def _frame_rate(self) -> float | None:
        rate = self.attrs.get("frame_rate")
        if rate is None:
            return None
        if not _is_number(rate) or rate <= 0:
            self._wrong(f"frame_rate must be a number above 0, not {rate!r:.60}")
            return None
        return float(rate)

    def _text(self, key: str) -> str | None:
        text: str | None = self.attrs.get(key)
        if text is None or _is_text(text):
            return text
        self._wrong(f"{key} must be a str, not {text!r:.60}")
        return None

    def _word(self, key: str, words: tuple[str, ...]) -> str | None:
        word: str | None = self.attrs.get(key)
        if word is None or (isinstance(word, str) and word in words):
            return word
        self._wrong(f"{key} must be one of {', '.join(map(repr, words))}, not {word!r:.60}")
        return None

    def _color(self, axes: tuple[Axis, ...] | None) -> str | None:
        color = self._word("color", (*CHANNELS, *BAYER))
        if color is None or self.shape is None:
            return color
        types = [axis.type for axis in axes] if axes else [""] * len(self.shape)
        types = _complete(self.shape, types, "image", color)
        wanted = CHANNELS.get(color, 1)
        if len(self.shape) < 2 or _channels(self.shape, types) != wanted:
            what = "no channel axis" if wanted == 1 else f"a channel axis of {wanted}"
            self._wrong(f"color {color!r} needs frames with {what}, not of {self.shape}")
            return None
        if types.count("space") < 2:
            self._wrong(f"color {color!r} needs two axes of type 'space', the sides of a picture")
            return None
        return color

    def _range(self) -> tuple[float, float] | None:
        given = self.attrs.get("range")
        if given is None:
            return None
        if (
            not isinstance(given, list | tuple)
            or len(given) != 2
            or not all(map(_is_number, given))
            or not given[0] < given[1]
        ):
            self._wrong(f"range must be the lowest and the highest value, not {given!r:.60}")
            return None
        if self.dtype is not None and self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            if given[0] < limits.min or given[1] > limits.max:
                self._wrong(f"range {list(given)} is more than a {self.dtype} can hold")
                return None
        return given[0], given[1]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _listed(values: Any) -> Any:
    """Return what JSON can hold: a list, without numpy's numbers and without Axis."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        return values  # wrong, as check will say
    return [value.as_dict() if isinstance(value, Axis) else _plain(value) for value in values]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


# ---- guesses


def _kind_by_dtype(dtype: np.dtype[Any]) -> Kind | None:
    return None if dtype.kind in "biufc" else "table"


def _kind_by_types(types: list[str]) -> Kind | None:
    if types.count("space") >= 2:
        return "image"
    return "signal" if "time" in types else None


def _kind_by_shape(shape: tuple[int, ...], types: list[str]) -> Kind:
    """Guess by what could be the sides of a picture."""
    sides = [length for length, kind in zip(shape, types, strict=True) if kind in ("space", "")]
    if len(sides) < 2:
        return "signal"
    few_channels = len(shape) == 2 and min(sides) <= FEW_CHANNELS and max(sides) >= MANY_SAMPLES * min(sides)
    return "signal" if few_channels else "image"


def _complete(shape: tuple[int, ...], types: list[str], kind: Kind, color: str | None) -> list[str]:
    """Give a type to the axes that have none, as far as it can be guessed."""
    types = list(types)
    untyped = [number for number, one in enumerate(types) if not one]
    if kind == "signal" and untyped:
        if not {"time", "space"} & {*types}:
            samples = max(untyped, key=lambda number: shape[number])
            types[samples] = "time"
            untyped.remove(samples)
        if "channel" not in types and len(untyped) == 1:
            types[untyped[0]] = "channel"
    elif kind == "image":
        if "channel" not in types:
            known = (1, 3, 4) if color is None else (CHANNELS.get(color, 1),)
            for number, lengths in ((len(shape) - 1, known), (len(shape) - 3, {3, 4}.intersection(known))):
                if len(untyped) > 2 - types.count("space") and number in untyped and shape[number] in lengths:
                    types[number] = "channel"
                    untyped.remove(number)
                    break
        for number in reversed(untyped):
            if types.count("space") < 2:
                types[number] = "space"
    return types


def _names(types: list[str]) -> list[str]:
    """Name axes whose types were guessed."""
    names = [f"axis_{number + 1}" for number in range(len(types))]
    for kind, some in {"time": ["sample"], "channel": ["channel"], "space": ["y", "x"]}.items():
        numbers = [number for number, one in enumerate(types) if one == kind]
        for number, name in zip(numbers, some, strict=False):
            names[number] = name
    return names


def _channels(shape: tuple[int, ...], types: list[str]) -> int:
    return shape[types.index("channel")] if "channel" in types else 1
