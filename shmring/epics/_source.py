"""From a PV into a ring."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Literal

from p4p.client.raw import Context, Disconnected, Finished

from shmring import Producer, Ring, RingClosed, RingFull, RingIncompatible
from shmring._ring import ring_or_name
from shmring._schema import check_int, check_slots
from shmring._wait import Wait
from shmring.epics import _meta
from shmring.epics._ntndarray import IDS, Image, attrs_of, check_pv, decode, since_1970

SLICE = 0.1  # seconds until a wait for space looks at stop() again
QUEUE = 16  # images that the server keeps while this is busy; EPICS' default of 4 is lost within a hiccup


class PvaSource:
    """Publishes the images of a PV into a ring. It subscribes when it is made, and publishes in `run`.

    A frame's timestamp is the image's ``dataTimeStamp`` (``timeStamp`` if it has none): in nanoseconds since
    1970, if the ring's attrs have ``"clock": "realtime"``, else by CLOCK_MONOTONIC. Images that do not arrive
    leave gaps in ``uniqueId``; the ring gets the same gaps, so its consumers count them as lost. While the PV
    is disconnected, `run` waits for it.

    A context manager: at its end the stream closes. If an exception leaves it, consumers get ProducerFailed.

    Parameters
    ----------
    pv : str
        Name of an NTNDArray.
    ring : Ring or str
        A name: the ring is created for the first image, with its shape and dtype, its numbers and booleans
        as meta and ``"clock": "realtime"``, and removed at the end. A Ring: its fields of meta get the
        attributes of their names (``uniqueId``, ``timeStamp`` and ``dataTimeStamp`` work too); images must
        fit.
    slots : int
        Of the ring that is created.
    on_full : {"drop", "wait"}
        With a full ring: drop the image, or wait for space while the PV's server drops later ones.
    timeout : float, optional
        Seconds to wait for the first image where the ring is to be created; None waits forever.
    context : p4p.client.raw.Context, optional
        The connection to use, made with ``nt=False``. Default: one of its own, by the environment
        (EPICS_PVA_ADDR_LIST and so on).

    Raises
    ------
    TimeoutError
        There was no image in time.
    TypeError, ValueError
        The PV is not an NTNDArray, or its images are compressed.

    Examples
    --------
    >>> from shmring.epics import PvaSource  # doctest: +SKIP
    >>> with PvaSource("13SIM1:Pva1:Image", "camera") as source:  # doctest: +SKIP
    ...     source.run()
    """

    def __init__(
        self,
        pv: str,
        ring: Ring | str,
        *,
        slots: int = QUEUE,
        on_full: Literal["drop", "wait"] = "drop",
        timeout: float | None = 10.0,
        context: Context | None = None,
    ) -> None:
        if on_full not in ("drop", "wait"):
            raise ValueError(f"on_full must be 'drop' or 'wait', not {on_full!r}")
        ring = ring_or_name(ring)
        slots = check_slots(slots)
        wait = Wait(timeout)
        self._pv = check_pv(pv)
        self._news = threading.Event()
        self._stopped = self._connected = self._reconnected = False
        self._disconnects = self._published = self._lost = self._dropped = 0
        self._last: Image | None = None
        self._waiting: Image | None = None  # the first one, until `run` publishes it
        self._context = Context("pva", useenv=True, nt=False) if context is None else context
        self._owns_context, self._owns_ring = context is None, isinstance(ring, str)
        request = f"record[queueSize={QUEUE}]field()"
        self._subscription = self._context.monitor(pv, self._news.set, request)
        try:
            self._ring = self._create(ring, slots, wait, timeout) if isinstance(ring, str) else ring
            try:
                self._out: Producer = self._ring.producer(on_full=on_full)
            except BaseException:
                self._end_ring()
                raise
        except BaseException:
            self._disconnect()
            raise

    def _create(self, name: str, slots: int, wait: Wait, timeout: float | None) -> Ring:
        """Create the ring that the first image needs."""
        self._waiting = image = self._first(wait, timeout)
        return Ring.create(
            name, shape=image.array.shape, dtype=image.array.dtype, slots=slots, meta=_meta.meta_for(image),
            attrs=attrs_of(image, self._pv),
        )  # fmt: skip

    def _first(self, wait: Wait, timeout: float | None) -> Image:
        while True:
            image = self._next(None if timeout is None else wait.left) if wait.left > 0 else None
            if image is not None:
                return image
            if wait.left <= 0:
                raise TimeoutError(
                    f"PV {self._pv!r} has sent no image in {timeout} s: is its acquisition running?"
                    if self._connected
                    else f"no server has answered for PV {self._pv!r} in {timeout} s: check the name, and "
                    f"that EPICS_PVA_ADDR_LIST leads to it"
                )

    # ---- what it is doing; from any thread

    @property
    def ring(self) -> Ring:
        """The ring that the images go to."""
        return self._ring

    @property
    def connected(self) -> bool:
        """Whether the PV is connected, as far as its updates were read."""
        return self._connected

    @property
    def disconnects(self) -> int:
        """How many times the PV went away."""
        return self._disconnects

    @property
    def published(self) -> int:
        """Images that are in the ring."""
        return self._published

    @property
    def lost(self) -> int:
        """Images that did not arrive, by the gaps in uniqueId."""
        return self._lost

    @property
    def dropped(self) -> int:
        """Images that arrived at a full ring."""
        return self._dropped

    def stop(self) -> None:
        """End `run`: from another thread or a signal handler."""
        self._stopped = True
        self._news.set()

    # ---- the images

    def run(self, frames: int | None = None) -> int:
        """Publish what comes, until `stop` or `close`; a server can end it, too, but most just disconnect.

        Parameters
        ----------
        frames : int, optional
            End after this number of images was published.

        Returns
        -------
        int
            Images that this call published.

        Raises
        ------
        RingIncompatible
            An image has another shape or dtype than the ring.
        TypeError, ValueError
            The PV is not an NTNDArray, its images are compressed, or an attribute does not fit its field.
        """
        before = self._published
        most = None if frames is None else before + check_int("frames", frames, 1)
        try:
            while not self._stopped and (most is None or self._published < most):
                image, self._waiting = self._waiting, None
                if image is None:
                    image = self._next(None)
                if image is not None:
                    self._publish(image)
        except RingClosed:
            if not self._stopped:  # else by `close`, in another thread
                raise
        return self._published - before

    def _next(self, timeout: float | None) -> Image | None:
        """Return the image of the next update; None if it has none, or there is no update in time."""
        self._news.clear()
        update = self._subscription.pop()
        if update is None and not self._stopped:
            self._news.wait(timeout)
            return None
        if isinstance(update, Disconnected):
            self._disconnects += self._connected
            self._connected = False
            self._stopped |= isinstance(update, Finished)
            return None
        if isinstance(update, Exception):
            raise update
        if update is None:
            return None
        self._reconnected, self._connected = not self._connected, True
        image = decode(update, self._pv)
        return image if image is not None and self._is_new(update, image) else None

    def _is_new(self, update: Any, image: Image) -> bool:
        """Whether there is an image in it that was not there: not just an alarm, or the last image again."""
        last = self._last
        if last is None or (last.unique_id, last.stamps) != (image.unique_id, image.stamps):
            return True
        return not self._reconnected and bool(update.changed("value"))

    def _publish(self, image: Image) -> None:
        self._check(image)
        gap = self._gap(image)
        if gap:
            self._out.drop(gap)
            self._lost += gap
        self._last = image
        array = image.array.reshape(()) if self._ring.shape == () else image.array
        taken = (image.data_time_ns or image.time_ns or time.time_ns()) - since_1970(self._ring.attrs)
        meta = _meta.meta_of(image, self._ring.meta_dtype)
        while not self._stopped:
            try:
                done = self._out.put(array, timestamp_ns=taken, meta=meta, timeout=SLICE, casting="equiv")
            except RingFull:
                continue
            self._published += done
            self._dropped += not done
            return

    def _gap(self, image: Image) -> int:
        """Return how many images are missing before this one."""
        if self._last is None:
            return 0
        step = (image.unique_id - self._last.unique_id) % IDS
        return max(0, step - 1) if step < IDS // 2 else 0  # backwards: the detector counts from the beginning

    def _check(self, image: Image) -> None:
        ring, array = self._ring, image.array
        fits = array.shape[ring.variable_rows :] == ring.shape[ring.variable_rows :]
        fits = fits and (not ring.variable_rows or array.shape[0] <= ring.shape[0])
        fits = fits or (ring.shape == () and array.size == 1)
        if not fits or array.dtype != ring.dtype.newbyteorder("="):
            raise RingIncompatible(
                f"PV {self._pv!r} sent an image of shape {array.shape} and dtype {array.dtype}; frames of "
                f"ring {ring.name!r} have shape {ring.shape} and dtype {ring.dtype}: make another ring for "
                f"these"
            )

    # ---- the end

    def close(self, error: str | BaseException | None = None) -> None:
        """Unsubscribe and end the stream. May be called twice.

        Parameters
        ----------
        error : str or BaseException, optional
            Why it ends too early, as for ``Producer.close``.
        """
        self.stop()
        self._disconnect()
        self._out.close(error)
        self._end_ring()

    def _disconnect(self) -> None:
        self._subscription.close()
        if self._owns_context:
            self._context.close()

    def _end_ring(self) -> None:
        if self._owns_ring and not self._ring.closed:
            self._ring.unlink()
            self._ring.close()

    def __enter__(self) -> PvaSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(value if isinstance(value, Exception) else None)
