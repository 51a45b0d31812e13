"""What a finished recording says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Ended: TypeAlias = Literal[
    "producer closed",
    "producer failed",
    "producer died",
    "limit",
    "incomplete",
    "stopped",
    "interrupted",
    "ring replaced",
    "write failed",
]


@dataclass(frozen=True, slots=True)
class Summary:
    """What was recorded.

    Attributes
    ----------
    paths : tuple of Path
        The files, oldest first: several with a `Roll`.
    frames : int
        Frames recorded, including those in files that a `Roll` has since deleted.
    nbytes : int
        Bytes of these frames.
    lost : int
        Frames that the recorder did not get: dropped at the source or, if it was lossy (as a capture is),
        overwritten before it could read them.
    seconds : float
        From the start of the recording to its end.
    ended : str
        Why: ``"producer closed"``, ``"producer failed"``, ``"producer died"``, ``"limit"``, ``"stopped"``,
        ``"interrupted"``, ``"ring replaced"`` or ``"write failed"``. A capture that reached its last frame
        without all the frames it was asked for says ``"incomplete"`` instead of ``"limit"``: some were
        overwritten (`lost` counts them), or the ring had not had that many before the trigger.
    failure : str
        With ``"producer failed"``: the producer's error, else ``""``.
    """

    paths: tuple[Path, ...]
    frames: int
    nbytes: int
    lost: int
    seconds: float
    ended: Ended
    failure: str = ""
