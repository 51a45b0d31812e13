"""The rings of this machine, from Python: what ``shmring ls`` and ``shmring rm`` do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shmring import _core, _inventory, _names

if TYPE_CHECKING:
    import numpy as np

    from shmring._stats import RingStats

__all__ = ["RingInfo", "rings", "unlink"]


@dataclass(frozen=True, slots=True)
class RingInfo:
    """A ring of this machine, as `rings` found it.

    Attributes
    ----------
    name : str
        Name to attach with.
    state : {"live", "stale"}
        ``"stale"``: nobody uses it any more; the next ``create`` of that name replaces it.
    shape, dtype, slots, nbytes, meta_dtype, variable_rows, attrs
        As the ring's.
    owner : str
        Login name of the user that it belongs to.
    mode : int
        File mode, which decides which users may attach.
    created_ns : int
        When it was created, nanoseconds since 1970 (CLOCK_REALTIME).
    stats : RingStats
        The producer, the consumers and the counters at that moment.
    """

    name: str
    state: Literal["live", "stale"]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slots: int
    nbytes: int
    meta_dtype: np.dtype[Any] | None
    variable_rows: bool
    attrs: Mapping[str, Any]
    owner: str
    mode: int
    created_ns: int
    stats: RingStats


def rings() -> list[RingInfo]:
    """Return the rings of this machine, live and stale, by name. Attaches to none of them.

    Blocks that this process cannot read as a ring are left out: rings of other users, damaged ones, and
    blocks of other programs. ``shmring ls`` lists those too.

    Returns
    -------
    list of RingInfo

    Examples
    --------
    >>> import shmring
    >>> with shmring.Ring.create(shape=(480, 640), dtype="u1", slots=4) as ring:
    ...     [one.shape for one in shmring.rings() if one.name == ring.name]
    [(480, 640)]
    """
    return [info for found in _inventory.look_at_all() if (info := _info(found)) is not None]


def _info(found: _inventory.Found) -> RingInfo | None:
    ring = found.ring
    if ring is None or not (found.state == "live" or found.state == "stale"):
        return None
    return RingInfo(
        name=found.name,
        state=found.state,
        shape=ring.stats.shape,
        dtype=ring.stats.dtype,
        slots=ring.stats.slots,
        nbytes=ring.stats.nbytes,
        meta_dtype=ring.meta_dtype,
        variable_rows=ring.variable_rows,
        attrs=ring.attrs,
        owner=found.owner,
        mode=found.mode,
        created_ns=ring.created_ns,
        stats=ring.stats,
    )


def unlink(name: str, *, force: bool = False) -> None:
    """Remove the name of a ring, so that nobody can attach any more, without attaching to it.

    Parameters
    ----------
    name : str
    force : bool
        Also of a ring that is in use: attached processes keep it, and continue.

    Raises
    ------
    RingNotFound
        No ring has that name.
    RingExists
        It is in use and `force` is False; the message names its users. Or the block is another program's.
    RingAccessDenied
        This user may not remove it.

    Examples
    --------
    >>> import numpy as np, shmring
    >>> shmring.Ring.create("left-over", shape=(2,), dtype="f4", slots=4).close()
    >>> shmring.unlink("left-over")
    """
    bare = _names.check_name(name)
    if _core.check_flag("force", force):
        _inventory.unlink(bare)
    else:
        _inventory.remove(bare, despite="pass force=True")
