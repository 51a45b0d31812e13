"""What handles and frames say at a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmring._words import count

if TYPE_CHECKING:
    from shmring._core import Batch, Buffers, Consumer, Frame, Producer, Slot

__all__ = ["batch", "consumer", "frame", "producer", "slot"]


def producer(handle: Producer, state: str) -> str:
    return (
        f"<shmring.Producer of {handle.name!r}, {state}, next seq {handle.next_seq}, "
        f"{handle.dropped} dropped, on_full={handle.on_full!r}>"
    )


def consumer(handle: Consumer, state: str) -> str:
    policy = "lossless" if handle.lossless else "lossy"
    if handle.group is not None:
        policy = f"member of group {handle.group!r}"
    label = f" {handle.label!r}" if handle.label else ""
    return (
        f"<shmring.Consumer{label} of {handle.name!r}, {policy}, {state}, {handle.delivered} delivered, "
        f"lag {handle.lag}, {handle.lost} lost, {handle.skipped} skipped, {handle.held} held>"
    )


def slot(claimed: Slot, is_open: bool) -> str:
    state = "finished"
    if is_open:
        state = "dropped, scratch memory" if claimed.dropped else "open"
    return f"<shmring.Slot seq {claimed.seq}, {count(claimed.count, 'frame')}, {state}>"


def buffers(lent: Buffers, ring: str, most: int, is_open: bool) -> str:
    state = f"the driver has {len(lent)} of {most}" if is_open else "given back"
    return f"<shmring.Buffers of {ring!r}, {state}>"


def frame(held: Frame, ring: str) -> str:
    state = "released" if held.released else "held"
    lost = f", {held.lost} lost before it" if held.lost else ""
    again = ", redelivered" if held.redelivered else ""
    return (
        f"<shmring.Frame seq {held.seq} of {ring!r}, shape {held.shape}, dtype {held.dtype}, "
        f"{state}{lost}{again}>"
    )


def batch(held: Batch, ring: str) -> str:
    state = "released" if held.released else "copied" if held.copied else "held"
    return (
        f"<shmring.Batch of {count(len(held), 'frame')}, seq {held.seqs[0]} to {held.seqs[-1]}, of {ring!r}, "
        f"shape {held.shape}, dtype {held.dtype}, {state}{', redelivered' if held.redelivered else ''}>"
    )
