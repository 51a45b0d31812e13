"""A warning in the log for a claim's block that is left before anything was written."""

from __future__ import annotations

import dis
import functools
import logging
import sys
from types import CodeType, FrameType

__all__ = ["current_frame", "leaves_early", "log_untouched"]

current_frame = sys._getframe


def leaves_early(frame: FrameType) -> bool:
    """Whether a `with` block of this frame, which calls ``__exit__``, ends by break, continue or return."""
    return is_one_of_many(frame.f_code, frame.f_lasti)


@functools.lru_cache  # a block that publishes the same picture again and again is looked at once
def is_one_of_many(code: CodeType, here: int) -> bool:
    """Whether a call of ``__exit__`` is followed by another one of the same `with` statement.

    The compiler writes the call once for the end of the block, and before it once for each other way out, all
    of them with the position of the `with` statement.
    """
    calls = (one for one in dis.get_instructions(code) if "CALL" in one.opname)
    positions = {call.offset: call.positions for call in calls}
    return any(other > here and positions[other] == positions.get(here) for other in positions)


def log_untouched(name: str, seq: int) -> None:
    """Log that a frame was published into which nobody seems to have written."""
    logging.getLogger("shmring").warning(
        "frame %d of ring %r was published although its `with out.claim()` block ended early (by break, "
        "say), and nothing seems to have been written into slot.array: it may show an old frame. If there "
        "is no frame to publish, call slot.abort() before you leave the block; if there is one, call "
        "slot.publish()",
        seq,
        name,
    )
