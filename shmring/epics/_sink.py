"""From a ring to a PV."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np
from p4p.server import Server, StaticProvider
from p4p.server.raw import SharedPV

from shmring import Frame, Ring, RingClosed, RingEmpty, attrs
from shmring._follow import ENDS, Rejoiner, Succession
from shmring._names import RETRY
from shmring._ring import ring_or_name
from shmring._schema import check_int
from shmring.epics import _meta
from shmring.epics._ntndarray import (
    BAYER_PATTERNS,
    check_pv,
    color_axis,
    color_mode,
    encode,
    member_of,
    order_of,
    since_1970,
)

SLICE = 0.1  # seconds until a wait for a frame looks at stop() again


class PvaSink:
    """Serves the frames of a ring as a PV of EPICS. It joins the ring when it is made, and serves in `run`.

    The PV is an NTNDArray, and connects with the first frame. Its ``uniqueId`` is the frame's seq, so clients
    see lost frames as a gap; ``dataTimeStamp`` is the frame's timestamp, ``timeStamp`` the time when it was
    sent. Each field of the ring's meta is an attribute; ``ColorMode`` is one more.

    Parameters
    ----------
    ring : Ring or str
        What to serve. If it is a name, that ring is attached.
    pv : str
        Name of the PV.
    lossless : bool
        True: hold the producer back rather than lose a frame *before* it is sent. Clients that are slow lose
        images all the same.
    timeout : float, optional
        Seconds to wait for a ring of that name; None waits forever.
    follow : bool
        True, with a name: when the stream ends, wait for the next producer or the next ring of that name,
        and serve its frames as the same PV. ``uniqueId`` begins at 0 with each ring.
    provider : p4p.server.StaticProvider, optional
        Of a server of yours, which gets the PV. Default: a server of its own, by the environment
        (EPICS_PVAS_INTF_ADDR_LIST and so on).

    Raises
    ------
    TypeError
        NTNDArray has no such dtype, or attributes have no such type as a field of meta.
    RingNotFound, TooManyConsumers
        The message says why.

    Examples
    --------
    >>> from shmring.epics import PvaSink  # doctest: +SKIP
    >>> with PvaSink("camera", "LAB:Image") as sink:  # doctest: +SKIP
    ...     sink.run()
    """

    def __init__(
        self,
        ring: Ring | str,
        pv: str,
        *,
        lossless: bool = False,
        timeout: float | None = 0,
        follow: bool = False,
        provider: StaticProvider | None = None,
    ) -> None:
        self._stopped = self._closed = False
        self._sent = self._lost = 0
        self._name = check_pv(pv)
        ring = ring_or_name(ring)
        self._attached = isinstance(ring, str)
        self._rings: Succession | None = None
        self._joined = Rejoiner(lossless=lossless, start="oldest", label="PvaSink")
        if follow:
            if not isinstance(ring, str):
                raise TypeError(f"follow=True needs a name, not a ring: {ring.name!r}")
            self._rings = Succession(ring)
            ring = self._rings.wait(timeout)
        elif isinstance(ring, str):
            ring = Ring.attach(ring, timeout=timeout)
        self._ring = ring
        try:
            self._join()
            self._provider = StaticProvider() if provider is None else provider
            self._pv = SharedPV()
            self._provider.add(pv, self._pv)
            self._server = Server(providers=[self._provider]) if provider is None else None
        except BaseException:
            self._leave()
            raise

    def _join(self) -> None:
        """Become a consumer of the ring, if its frames can be sent."""
        self._member = member_of(self._ring.dtype, self._ring.name)
        _meta.check_meta(self._ring.meta_dtype, self._ring.name)
        said, color = attrs.read(self._ring), self._ring.attrs.get("color")
        self._order = order_of(said)
        axis = color_axis(said, color, self._ring.shape, self._order)
        self._blue_first = axis if color == "bgr" else None  # NTNDArray has red first only
        self._color = _meta.color_attributes(color_mode(color, axis), self._ring.attrs, BAYER_PATTERNS)
        self._joined.join(self._ring)

    @property
    def sent(self) -> int:
        """Frames that were sent."""
        return self._sent

    @property
    def lost(self) -> int:
        """Frames of the ring that came too fast to be sent."""
        consumer = self._joined.consumer
        return self._lost + (0 if consumer is None else consumer.lost)

    def stop(self) -> None:
        """End `run` after the frame that it is sending: from another thread or a signal handler."""
        self._stopped = True

    def run(self, frames: int | None = None) -> int:
        """Send what comes, until `stop` or the end of the stream (of a sink that follows: until `stop`).

        Parameters
        ----------
        frames : int, optional
            End after this number of frames.

        Returns
        -------
        int
            Frames that this call sent. The PV keeps the last one until `close`.

        Raises
        ------
        ProducerDied, ProducerFailed
            The stream ended too early, and the sink does not follow.
        TypeError
            The next ring has frames that NTNDArray cannot carry.
        ValueError
            A meta is above what attributes can have.
        """
        before = self._sent
        most = None if frames is None else before + check_int("frames", frames, 1)
        while not self._stopped and (most is None or self._sent < most):
            try:
                frame = self._next()
            except RingClosed:
                break
            if frame is not None:
                with frame:
                    self._send(frame)
        return self._sent - before

    def _next(self) -> Frame | None:
        """Wait a while for a frame that was not sent yet."""
        consumer = self._joined.consumer
        if consumer is None:
            self._join_next()
            return None
        try:
            frame = consumer.get(SLICE)
        except RingEmpty:
            return None
        except ENDS:
            if self._rings is None or self._closed:
                raise
            self._lost += self._joined.leave()
            self._rings.pass_by(self._ring)
            return None
        if self._joined.is_new(frame):
            return frame
        frame.release()
        return None

    def _join_next(self) -> None:
        """Join the ring that has the name now, if a producer has come that was not followed yet."""
        assert self._rings is not None
        ring = self._rings.find()
        if ring is None:
            time.sleep(RETRY)
            return
        self._ring = ring
        try:
            self._join()
        except BaseException:
            ring.close()
            raise

    def _send(self, frame: Frame) -> None:
        meta = self._ring.meta_dtype
        array = frame.array.transpose(self._order)
        value = encode(
            array if self._blue_first is None else np.flip(array, self._blue_first),
            self._member,
            seq=frame.seq,
            stamps=(frame.timestamp_ns + since_1970(self._ring.attrs), time.time_ns()),
            attributes={**self._color, **_meta.attributes_of(frame.meta, meta)},
        )
        if self._pv.isOpen():
            self._pv.post(value)
        else:
            self._pv.open(value)
        self._sent += 1

    def close(self) -> None:
        """Take the PV away and leave the ring. May be called twice."""
        self._stopped = True
        if self._closed:
            return
        self._closed = True
        self._provider.remove(self._name)
        self._pv.close(destroy=True)
        if self._server is not None:
            self._server.stop()
        self._leave()

    def _leave(self) -> None:
        self._lost += self._joined.leave()
        if self._attached:
            self._ring.close()

    def __enter__(self) -> PvaSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
