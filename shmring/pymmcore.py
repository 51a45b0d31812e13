"""For Micro-Manager: a handler for the acquisitions of pymmcore-plus, which publishes their images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

import numpy as np

from shmring._core import Producer
from shmring._ring import Ring, ring_or_name
from shmring._schema import check_slots

__all__ = ["RingHandler"]

AXES = "tpgcz"  # of the index of an event
TOO_EARLY = "the handler was closed before the acquisition had ended: join() the thread of run_mda first"


class RingHandler:
    """Publishes the images of an acquisition: pass it as an output of ``core.run_mda``.

    The stream of the ring begins and ends with the acquisition. Events that were skipped, and images that the
    camera did not deliver, are gaps in seq, which consumers count as lost.

    It never raises into the acquisition. What goes wrong is logged, is in `error`, and ends the stream: its
    consumers get ProducerFailed.

    Parameters
    ----------
    ring : Ring or str
        A name: the ring is created for each acquisition whose images have another shape, dtype or pixel size
        than those of the last one, or come from another camera, and removed by `close`. A Ring: its fields of
        meta get the values of their names.
    slots : int
        Of a ring that is created.
    on_full : {"drop", "wait"}
        With a full ring: drop the image, or wait. pymmcore-plus calls its outputs in a thread of their own,
        and keeps every image in memory that waits for them.

    Notes
    -----
    A ring that is created has a meta of the event's index (``t``, ``p``, ``g``, ``c``, ``z``; -1 where the
    acquisition has no such axis), ``runner_time_ms`` and ``exposure_ms``; with several cameras also
    ``camera_device``, whose image it is. The meta of a Ring may also have fields for other numbers and text
    of the frame's metadata and of its ``camera_metadata``.

    Examples
    --------
    >>> from shmring.pymmcore import RingHandler
    >>> with RingHandler("microscope") as handler:  # doctest: +SKIP
    ...     core.run_mda(sequence, output=handler).join()
    """

    def __init__(
        self, ring: Ring | str, *, slots: int = 16, on_full: Literal["drop", "wait"] = "drop"
    ) -> None:
        if on_full not in ("drop", "wait"):
            raise ValueError(f"on_full must be 'drop' or 'wait', not {on_full!r}")
        ring = ring_or_name(ring)  # now: once an acquisition runs, nothing is raised
        self._name = ring if isinstance(ring, str) else None
        self._ring = None if isinstance(ring, str) else ring
        self._slots = check_slots(slots)
        self._on_full: Literal["drop", "wait"] = on_full
        self._out: Producer | None = None
        self._expected: Iterator[Any] | None = None  # events that are to come; None: not known
        self._last: dict[str, int] | None = None  # index of the last event
        self._error: Exception | None = None
        self._closed = False

    @property
    def ring(self) -> Ring | None:
        """The ring; None before the first acquisition, if it is to be created."""
        return self._ring

    @property
    def error(self) -> Exception | None:
        """What ended the last acquisition's stream too early."""
        return self._error

    # ---- what pymmcore-plus calls

    def sequenceStarted(self, sequence: Any, meta: Mapping[str, Any]) -> None:  # noqa: N802
        """Begin a stream."""
        self._error = self._last = None
        if self._closed:
            self._fail(RuntimeError(TOO_EARLY))
            return
        try:
            if self._name is not None:
                self._create(self._name, meta)
            assert self._ring is not None
            self._out = self._ring.producer(on_full=self._on_full)
            self._expected = images(sequence)
        except Exception as error:
            self._fail(error)

    def frameReady(self, image: Any, event: Any, meta: Mapping[str, Any]) -> None:  # noqa: N802
        """Publish an image."""
        out = self._out
        if out is None:
            return
        try:
            self.skip(frames=self._missed(dict(event.index)))
            values = {**meta.get("camera_metadata", {}), **meta, **event.index}
            out.put(image, meta=meta_of(values, out.ring.meta_dtype))
        except Exception as error:
            if out is self._out:  # else it was closed in the meantime
                self._fail(error)

    def skip(self, *, frames: int = 1) -> None:
        """Leave a gap: these images do not exist."""
        if self._out is not None and frames:
            self._out.drop(frames)

    def sequenceCanceled(self, sequence: Any) -> None:  # noqa: N802
        """Expect no more images."""
        self._expected = None

    def sequenceFinished(self, sequence: Any) -> None:  # noqa: N802
        """End the stream."""
        if self._expected is not None:
            self.skip(frames=sum(1 for _ in self._expected))
        self._finish(None)

    # ---- the ring

    def _create(self, name: str, meta: Mapping[str, Any]) -> None:
        """Have a ring for the images of this acquisition."""
        if not meta.get("image_infos"):
            raise ValueError(f"the engine does not say what its images are: create ring {name!r} and pass it")
        info = meta["image_infos"][0]
        shape, dtype, attrs = tuple(info["plane_shape"]), np.dtype(info["dtype"]), attrs_of(info)
        fields = [*((axis, "i4") for axis in AXES), ("runner_time_ms", "f8"), ("exposure_ms", "f8")]
        if len(meta["image_infos"]) > 1:  # several cameras: their images have the same index
            fields.append(("camera_device", "U32"))
        fields_dtype = np.dtype(fields)
        if (ring := self._ring) is not None:
            found = (ring.shape, ring.dtype, ring.attrs, ring.meta_dtype)
            if found == (shape, dtype, attrs, fields_dtype):
                return
            self._remove()
        self._ring = Ring.create(
            name, shape=shape, dtype=dtype, slots=self._slots, meta=fields_dtype, attrs=attrs
        )

    def _remove(self) -> None:
        if self._ring is not None:
            self._ring.unlink()
            self._ring.close()
        self._ring = None

    def _missed(self, index: dict[str, int]) -> int:
        """Return how many images should have come before this one."""
        if self._expected is None or index == self._last:  # of another camera
            return 0
        self._last = index
        for number, event in enumerate(self._expected):
            if dict(event.index) == index:
                return number
        self._expected = None  # the engine has an order of its own
        return 0

    def _fail(self, error: Exception) -> None:
        self._error = error
        logging.getLogger("shmring").error("RingHandler: %s", error)
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        out, self._out, self._expected = self._out, None, None
        if out is not None:
            out.close(error)

    def close(self) -> None:
        """Remove the ring that was created. May be called twice.

        If an acquisition is still running, its stream ends here: consumers get ProducerFailed.
        """
        self._closed = True
        if self._out is not None:
            self._fail(RuntimeError(TOO_EARLY))
        if self._name is not None:
            self._remove()

    def __enter__(self) -> RingHandler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def images(sequence: Any) -> Iterator[Any] | None:
    """Iterate over the events that bring an image; None if the sequence makes them up on its way."""
    if not hasattr(sequence, "axis_order"):
        return None
    return (event for event in sequence if getattr(event.action, "type", "acquire_image") == "acquire_image")


def attrs_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the images."""
    scale = {"unit": "micrometer", "scale": info["pixel_size_um"]} if info.get("pixel_size_um") else {}
    axes: list[dict[str, Any]] = [{"name": name, "type": "space", **scale} for name in "yx"]
    is_color = len(info["plane_shape"]) == 3
    if is_color:
        axes.append({"name": "c", "type": "channel"})
    return {
        "axes": axes,
        "color": "rgb" if is_color else "gray",
        "source": f"micro-manager:{info.get('camera_label', '')}",
    }


def meta_of(values: Mapping[str, Any], dtype: np.dtype[Any] | None) -> Any:
    """Return the meta of a frame; -1 for an axis that there is not, else zero or empty text."""
    if dtype is None:
        return None
    if dtype.names is None:
        raise ValueError(
            f"the ring's meta is {dtype}: it needs fields, whose names say what is to be in them"
        )
    return {name: _value(values, name, dtype[name]) for name in dtype.names}


def _value(values: Mapping[str, Any], name: str, dtype: np.dtype[Any]) -> Any:
    value = values.get(name)
    if value is None:
        return -1 if name in AXES and dtype.kind == "i" else np.zeros((), dtype)[()]
    if dtype.kind in "US":
        text = np.array(str(value), dtype)  # cut to its width
        return text[()]
    # Micro-Manager's own metadata is text, numbers included.
    return dtype.type(value) if isinstance(value, str) else value
