"""From a ring to a PV."""

from __future__ import annotations

import time
from types import TracebackType

from p4p.server import Server, StaticProvider
from p4p.server.raw import SharedPV

from shmring import Frame, Ring, RingClosed, RingEmpty
from shmring._ring import ring_or_name
from shmring._schema import check_int
from shmring.epics import _meta
from shmring.epics._ntndarray import BAYER_PATTERNS, check_pv, color_mode, encode, member_of, since_1970

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
        provider: StaticProvider | None = None,
    ) -> None:
        self._stopped = self._closed = False
        self._sent = 0
        self._name = check_pv(pv)
        ring = ring_or_name(ring)
        self._attached = isinstance(ring, str)
        self._ring = Ring.attach(ring, timeout=timeout) if isinstance(ring, str) else ring
        try:
            self._member = member_of(self._ring.dtype, self._ring.name)
            _meta.check_meta(self._ring.meta_dtype, self._ring.name)
            mode = color_mode(self._ring.shape, self._ring.attrs)
            self._color = _meta.color_attributes(mode, self._ring.attrs, BAYER_PATTERNS)
            self._frames = self._ring.consumer(lossless=lossless, label="PvaSink")
            try:
                self._provider = StaticProvider() if provider is None else provider
                self._pv = SharedPV()
                self._provider.add(pv, self._pv)
                self._server = Server(providers=[self._provider]) if provider is None else None
            except BaseException:
                self._frames.close()
                raise
        except BaseException:
            self._leave_ring()
            raise

    @property
    def sent(self) -> int:
        """Frames that were sent."""
        return self._sent

    @property
    def lost(self) -> int:
        """Frames of the ring that came too fast to be sent."""
        return self._frames.lost

    def stop(self) -> None:
        """End `run` after the frame that it is sending: from another thread or a signal handler."""
        self._stopped = True

    def run(self, frames: int | None = None) -> int:
        """Send what comes, until `stop` or the end of the stream.

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
            The stream ended too early.
        ValueError
            A meta is above what attributes can have.
        """
        before = self._sent
        most = None if frames is None else before + check_int("frames", frames, 1)
        while not self._stopped and (most is None or self._sent < most):
            try:
                with self._frames.get(timeout=SLICE) as frame:
                    self._send(frame)
            except RingEmpty:
                continue
            except RingClosed:
                break
        return self._sent - before

    def _send(self, frame: Frame) -> None:
        meta = self._ring.meta_dtype
        value = encode(
            frame.array,
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
        self._frames.close()
        self._leave_ring()

    def _leave_ring(self) -> None:
        if self._attached:
            self._ring.close()

    def __enter__(self) -> PvaSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
