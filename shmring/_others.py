"""Whether a waiting thread is alone in its process, so that nothing there could end its wait."""

from __future__ import annotations

import sys
from _thread import get_ident

__all__ = ["HELPER", "others_run"]

HELPER = "shmring-asyncio"  # threads of this name only wake event loops


def others_run(tasks_too: bool) -> bool:
    """Whether another thread (or, if asked for, another task of this event loop) may release a frame."""
    idents = set(sys._current_frames()) - {get_ident()}
    if idents and "threading" in sys.modules:  # else none of them is a helper
        import threading

        idents -= {thread.ident for thread in threading.enumerate() if thread.name == HELPER}
    return bool(idents) or (tasks_too and other_tasks())


def other_tasks() -> bool:
    """Whether the event loop that runs here has more than one task."""
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        return len(asyncio.all_tasks()) > 1
    except RuntimeError:  # no loop runs
        return False
