"""What ``Mirror.stats()`` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from shmring._words import count
from shmring.ray._target import End

__all__ = ["MirrorStats", "SinkStats", "State"]

State: TypeAlias = Literal["starting", "running", "out of contact", "ended", "failed", "dead"]


@dataclass(frozen=True, slots=True)
class SinkStats:
    """The mirror's ring on one node.

    Attributes
    ----------
    node : str
        Ray's id of the node.
    ring : str
        Name of the ring there.
    lossless : bool
        Whether the source waits for this node.
    state : {"starting", "running", "out of contact", "ended", "failed", "dead"}
        ``"out of contact"``: its actor, or the connection, was lost; it joins again as soon as it can.
        ``"failed"``: it cannot continue, as `failure` says. ``"dead"``: its node is gone.
    failure : str
        What went wrong last, else ``""``.
    published : int
        Frames that are in the ring there, or were.
    rate : float
        Frames per second, over the last two seconds.
    window : int
        Batches on their way: sent, and not yet acknowledged.
    next_seq : int
        Seq of the next frame there; every frame below it came, or is lost.
    lag : int
        Frames that the source has published and the ring there does not have yet.
    lost : int
        Frames that the ring there never gets, and that its consumers count as lost.
    joined : int
        How often the node has joined the source: more than once after it was out of contact.
    """

    node: str
    ring: str
    lossless: bool
    state: State
    failure: str
    published: int
    rate: float
    window: int
    next_seq: int
    lag: int
    lost: int
    joined: int


@dataclass(frozen=True, slots=True)
class MirrorStats:
    """A mirror at one moment. ``print`` shows a line for each node.

    Attributes
    ----------
    ring : str
        Name of the source's ring.
    node : str
        Ray's id of the node that the source is on.
    ended : {"closed", "failed", "died"} or None
        How the stream ended, None while it has not.
    sinks : tuple of SinkStats
    """

    ring: str
    node: str
    ended: End | None
    sinks: tuple[SinkStats, ...]

    def __str__(self) -> str:
        """Format it as lines: the source, and each node."""
        lines = [f"mirror of ring {self.ring!r} on node {self.node[:8]}: {self.ended or 'running'}"]
        for one in self.sinks:
            policy = "lossless" if one.lossless else "lossy"
            why = f" ({one.failure})" if one.failure else ""
            counted = f"{one.rate:.1f}/s  window {one.window}  lag {one.lag}  lost {one.lost}"
            lines.append(
                f"  node {one.node[:8]}  ring {one.ring!r}  {policy}  {one.state}{why}  "
                f"{count(one.published, 'frame')}  {counted}"
            )
        return "\n".join(lines)
