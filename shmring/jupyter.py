"""For notebooks: live pictures of a ring, at no cost to its producer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import cmap
    import jupyter_rfb
except ModuleNotFoundError as _error:
    if _error.name not in ("cmap", "jupyter_rfb"):
        raise
    raise ModuleNotFoundError(
        'shmring.jupyter needs jupyter_rfb and cmap: pip install "shmring[jupyter]"', name=_error.name
    ) from None

from shmring import Consumer, Frame, Observer, Ring, errors
from shmring._alone import alone
from shmring._follow import Succession
from shmring._picture import picture
from shmring._schema import check_above_zero, check_int
from shmring._words import count
from shmring.attrs import RingAttrs, read

__all__ = ["RingView", "show"]

LABEL = "notebook"
UNSEEN = 2.0  # seconds without a look until the view leaves the ring, to join it again at the next one
TITLE_EVERY = 0.5  # seconds
SHORTEST = 1e-3  # seconds between two draws: the kernel has other things to do
TRACES = np.array(
    [[31, 119, 180], [214, 39, 40], [44, 160, 44], [148, 103, 189], [255, 127, 14], [23, 190, 207]], np.uint8
)
MOST_TRACES = 16
SIGNAL_HEIGHT = 0.4  # of the width
NOT_SHOWN = "frames of dtype {} are neither pictures nor signals"


def show(
    ring: Ring | str,
    *,
    levels: tuple[float, float] | None = None,
    colormap: str | None = None,
    rate: float = 30.0,
    width: int = 640,
    quality: int = 80,
    timeout: float | None = 0,
) -> RingView:
    """Show the newest frames of a ring in a notebook, as pictures or as traces.

    Make it the last line of a cell, or pass the result to ``IPython.display.display``. Frames are shown as
    fast as the browser takes them, at most `rate` per second; those in between are skipped. While a cell
    runs, the picture does not move: no widget does.

    Parameters
    ----------
    ring : Ring or str
        A name is followed: when its stream ends, the view waits for the next producer or the next ring of
        that name, and shows its frames. A Ring is shown until its stream ends.
    levels : pair of float, optional
        What becomes black, and what white; ``view.levels = (low, high)`` changes it later. Default:
        everything that bool and uint8 can hold, of other dtypes what all but the darkest and the brightest
        pixels of each frame hold.
    colormap : str, optional
        Of gray pictures: a name that cmap knows, ``"viridis"`` say. ``view.colormap = ...`` changes it.
    rate : float
        Frames per second, at most.
    width : int
        Of the picture in the notebook, in pixels. Larger frames are made smaller here, not in the browser.
    quality : int
        Of the JPEG that is sent while frames come, 1 to 100; 100: PNG, without losses. When they stop, the
        last one is sent as PNG in any case.
    timeout : float, optional
        Seconds to wait for a ring of that name; None waits forever.

    Returns
    -------
    RingView
        A widget; ``close()`` ends it. Above the picture it says how the stream ended.

    Raises
    ------
    TypeError, ValueError
        An argument is invalid: the frames are neither pictures nor signals; the color map has no such name.
    RuntimeError
        There is no event loop: this is not a notebook.
    RingNotFound, RingAccessDenied
        As ``Ring.attach``.
    """
    _running_loop()
    if not isinstance(ring, Ring | str):
        raise TypeError(f"show() takes a Ring or its name, not {ring!r:.60}")
    check_above_zero("rate", rate)
    width = check_int("width", width, 1)
    quality = check_int("quality", quality, 1, 100)
    check_levels(levels)
    colors_of(colormap)
    rings = Succession(ring) if isinstance(ring, str) else None
    shown = _attach(ring, timeout) if isinstance(ring, str) else ring
    try:
        if read(shown).kind == "table":
            raise ValueError(f"{NOT_SHOWN.format(shown.dtype)}: look at ring.observer().latest() instead")
        return RingView(shown, rings, levels, colormap, rate, width, quality)
    except BaseException:
        if rings is not None:
            shown.close()
        raise


class RingView(jupyter_rfb.RemoteFrameBuffer):  # type: ignore[misc]
    """A widget that shows the newest frames of a ring: from `show`.

    Attributes
    ----------
    levels, colormap
        As in `show`; you can change them.
    shown, skipped : int
        Frames that were sent to the browser, and those between them that were not.
    ended : str
        Why it ended, else ``""``: of a name that is followed, only `close` ends it.
    """

    def __init__(
        self,
        ring: Ring,
        rings: Succession | None,
        levels: tuple[float, float] | None,
        colormap: str | None,
        rate: float,
        width: int,
        quality: int,
    ) -> None:
        # Of what is checked here, nothing may be wrong: jupyter_rfb cannot delete half a widget.
        self._ring, self._said, self._generation = ring, read(ring), ring._generation
        self._rings, self._waits = rings, False  # for the next one
        self._is_due = False  # the picture that was made last, whatever comes
        self._loop = _running_loop()
        self._reader: Consumer | Observer | None = None
        # JupyterLab has what the browser says handled in another thread than cells and timers.
        self._lock = threading.RLock()
        self.levels, self.colormap = levels, colormap
        self._width = width
        height = self._height(width)
        super().__init__(css_width=f"{width}px", css_height=f"{height}px", quality=quality, has_titlebar=True)
        self._every = max(1 / rate, SHORTEST)
        self._pixels, self._height_now = max(width, height), height
        self.shown = self.skipped = 0
        self._next_seq: int | None = None
        self.ended = ""
        self._picture: npt.NDArray[np.uint8] | None = None
        self._seen_at = self._titled_at = self._rated_at = time.monotonic()
        self._rated_shown = 0
        self._say("")
        self._tick()

    def _height(self, width: int) -> int:
        if self._said.kind == "signal":
            return round(width * SIGNAL_HEIGHT)
        assert self._said.sides is not None
        rows, columns = (self._ring.shape[side] for side in self._said.sides)
        return max(1, min(2 * width, round(width * rows / columns)))

    @property
    def levels(self) -> tuple[float, float] | None:
        """What becomes black, and what white."""
        return self._levels

    @levels.setter
    def levels(self, levels: tuple[float, float] | None) -> None:
        check_levels(levels)
        self._levels = levels

    @property
    def colormap(self) -> str | None:
        """The colors of gray pictures."""
        return self._colormap

    @colormap.setter
    def colormap(self, name: str | None) -> None:
        self._colors, self._colormap = colors_of(name), name

    # ---- what jupyter_rfb calls

    def get_frame(self) -> npt.NDArray[np.uint8] | None:
        """Return the newest picture; None if there is no new one. Called when the browser has room for it."""
        return alone(self._lock, self._newest)

    def _newest(self) -> npt.NDArray[np.uint8] | None:
        self._seen_at = time.monotonic()
        if self.ended:
            return self._picture  # the last one may not have been sent, or a page was loaded again
        is_due, self._is_due = self._is_due, False
        return self._picture if is_due or (not self._waits and self._look()) else None

    def handle_event(self, event: dict[str, Any]) -> None:
        """Follow the size of the picture, and end with the widget."""
        kind = event.get("type", event.get("event_type"))
        if kind == "resize":
            ratio = event.get("ratio", 1)
            self._height_now = max(1, int(event["height"] * ratio))
            self._pixels = max(1, int(event["width"] * ratio), self._height_now)
            self._is_due = self._waits
        elif kind == "close":
            alone(self._lock, lambda: self._end("the view was closed"))

    # ---- the ring

    def _look(self) -> bool:
        """Make a picture of the newest frame; whether there is one that was not shown before."""
        if self._said.kind == "table":  # the next ring of that name
            return False
        try:
            if self._reader is None:
                self._reader = _join(self._ring)
            frame = self._reader.latest(timeout=0)
        except errors.RingEmpty:
            return False
        except (errors.ShmringError, ValueError, OSError) as error:  # the end, or somebody closed the ring
            self._over(_end_of(self._ring) or str(error))
            return False
        try:
            if self._next_seq is not None and frame.seq < self._next_seq:
                return False  # seen already, before the view left the ring
            found = self._paint(frame.array)
        finally:
            if isinstance(frame, Frame):
                frame.release()
        self.shown += 1
        self.skipped += 0 if self._next_seq is None else frame.seq - self._next_seq
        self._next_seq = frame.seq + 1
        self._picture = self._picture if found is None else found
        return found is not None

    def _paint(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
        """Make a picture that is no part of the ring."""
        if self._said.kind == "signal":
            return traces(array, self._said, self._pixels, self._height_now, self._levels)
        return picture(array, self._said, self._pixels, levels=self._levels, colors=self._colors)

    def _tick(self) -> None:
        """Ask for a draw, again and again: it comes when the browser has room and the view can be seen."""
        alone(self._lock, self._look_after)
        self.request_draw()
        if not self.ended:
            self._loop.call_later(self._every, self._tick)

    def _look_after(self) -> None:
        """See to what does not depend on the browser."""
        if self.ended:
            return
        if self._waits:
            self._join_next()
            return
        now = time.monotonic()
        if why := _end_of(self._ring):
            self._look()
            self._over(why)
            return
        if self._reader is not None and now - self._seen_at > UNSEEN:
            self._reader.close()
            self._reader = None
        if now - self._titled_at >= TITLE_EVERY:
            self._titled_at = now
            self._say(self._progress(now))

    def _progress(self, now: float) -> str:
        if self._said.kind == "table":
            return NOT_SHOWN.format(self._ring.dtype)
        seconds, shown = now - self._rated_at, self.shown - self._rated_shown
        self._rated_at, self._rated_shown = now, self.shown
        return f"{shown / seconds:.1f} frames/s, {self.skipped} skipped{self._left_out()}"

    def _left_out(self) -> str:
        axis = self._said.axis_of("channel")
        if self._said.kind != "signal" or axis is None or self._ring.shape[axis] <= MOST_TRACES:
            return ""
        return f", first {MOST_TRACES} of {self._ring.shape[axis]} channels"

    def _say(self, what: str) -> None:
        shape = "x".join(map(str, self._ring.shape)) or "scalar"
        self.title = f"{self._ring.name}  {shape} {self._ring.dtype}  {what}".rstrip()

    def _over(self, why: str) -> None:
        """End with the stream, or wait for the next one."""
        if self._rings is None:
            self._end(why)
        elif not (self.ended or self._waits):
            self._say(f"{why}: waits for the next ring of that name ({count(self.shown, 'frame')} shown)")
            self._leave()
            self._waits = self._is_due = True
            with contextlib.suppress(errors.ShmringError, OSError):  # its file may be damaged
                self._rings.pass_by(self._ring)

    def _join_next(self) -> None:
        """Show the next stream of the name, if there is one."""
        assert self._rings is not None
        try:
            ring = _find(self._rings)
        except (errors.ShmringError, OSError) as error:
            self._say(str(error))
            return
        if ring is None:
            return
        self._ring, self._said, self._waits = ring, read(ring), False
        if ring._generation != self._generation:
            self._generation, self._next_seq = ring._generation, None
        if self._said.kind != "table":
            self.css_height = f"{self._height(self._width)}px"
        self._titled_at = -math.inf  # a new title is due

    def _end(self, why: str) -> None:
        """Stop reading, whatever comes, and say why."""
        if self.ended:
            return
        self.ended = why
        self._say(f"ended: {why} ({count(self.shown, 'frame')} shown)")
        self._leave()
        if self._rings is not None:
            self._ring.close()

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "show() needs the event loop of a notebook; in a terminal, look at `shmring top`"
        ) from None


def _attach(name: str, timeout: float | None) -> Ring:
    try:
        return Ring.attach(name, timeout=timeout)
    except errors.RingAccessDenied:  # to read may be allowed
        return Ring.attach(name, timeout=timeout, readonly=True)


def _find(rings: Succession) -> Ring | None:
    try:
        return rings.find()
    except errors.RingAccessDenied:  # to read may be allowed
        return rings.find(readonly=True)


def _join(ring: Ring) -> Consumer | Observer:
    if ring.readonly:
        return ring.observer()
    try:
        return ring.consumer(lossless=False, start="newest", label=LABEL, max_held=1)
    except errors.TooManyConsumers:
        return ring.observer()


def _end_of(ring: Ring) -> str:
    """Say in a few words how the stream ended; "" if it did not."""
    if ring.closed:
        return "the ring was closed here"
    state, status = ring._producer_state()
    ends = {"failed": f"the producer failed: {status['failure']}", "died": "the producer died"}
    return "the producer closed it" if state == "closed" else ends.get(state, "")


def check_levels(levels: object) -> None:
    """Raise unless these are two numbers in order."""
    if levels is None:
        return
    pair = tuple(levels) if isinstance(levels, Iterable) else ()
    numbers = [one for one in pair if isinstance(one, Real) and math.isfinite(one)]
    if len(pair) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ValueError(f"levels are what becomes black and what becomes white, not {levels!r}")


def colors_of(name: str | None) -> npt.NDArray[np.uint8] | None:
    """Return the 256 colors of a color map."""
    if name is None:
        return None
    try:
        found = cmap.Colormap(name)
    except (ValueError, TypeError) as error:
        raise ValueError(f"there is no color map {name!r}: {error}") from None
    colors: npt.NDArray[np.uint8] = np.round(found.lut(256)[:, :3] * 255).astype(np.uint8)
    return colors


# ---- signals


def traces(
    array: npt.NDArray[Any], said: RingAttrs, width: int, height: int, levels: tuple[float, float] | None
) -> npt.NDArray[np.uint8] | None:
    """Draw the channels of a signal, each pixel column from the lowest to the highest value in it."""
    channels = _channels(array, said)[:MOST_TRACES]
    if 0 in channels.shape:
        return None
    width = max(2, min(width, 4096))
    with np.errstate(all="ignore"):
        low, high = _ends(channels) if levels is None else levels
        span = high / 2 - low / 2  # by halves: the distance between the largest numbers is infinite
        lowest, highest = _columns(channels, width)
        top, bottom = (
            np.nan_to_num(np.clip((high / 2 - values / 2) / span * (height - 1), -1, height), nan=-1.0)
            for values in (highest, lowest)
        )
    canvas = np.full((height, width, 3), 255, np.uint8)
    rows = np.arange(height)[:, np.newaxis]
    for number in range(len(channels)):
        canvas[(rows >= np.floor(top[number])) & (rows <= np.ceil(bottom[number]))] = TRACES[
            number % len(TRACES)
        ]
    return canvas


def _channels(array: npt.NDArray[Any], said: RingAttrs) -> npt.NDArray[np.float64]:
    """Return a signal as (channels, samples)."""
    values = np.abs(array) if array.dtype.kind == "c" else array
    channel = said.axis_of("channel")
    if array.ndim > 1:
        values = np.moveaxis(values, 0 if channel is None else channel, 0)
        values = values.reshape(len(values), -1)
    return np.atleast_2d(values).astype(np.float64)


def _ends(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    numbers = values[np.isfinite(values)]
    if not numbers.size:
        return 0.0, 1.0
    low, high = float(numbers.min()), float(numbers.max())
    margin = max(0.5, abs(low) / 1e6)  # of a flat signal
    return (low, high) if low < high else (low - margin, high + margin)


def _columns(
    channels: npt.NDArray[np.float64], width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the lowest and the highest value of each pixel column, which is joined to the one before."""
    samples = channels.shape[1]
    if samples < width:
        at = np.linspace(0, samples - 1, width)
        channels = np.array([np.interp(at, np.arange(samples), one) for one in channels])
        samples = width
    starts = np.arange(width) * samples // width
    lowest = np.fmin.reduceat(channels, starts, axis=1)  # of the values that are numbers
    highest = np.fmax.reduceat(channels, starts, axis=1)
    first = channels[:, starts[1:]]  # so that the line has no gaps between columns
    lowest[:, :-1], highest[:, :-1] = np.fmin(lowest[:, :-1], first), np.fmax(highest[:, :-1], first)
    return lowest, highest
