"""For EPICS: images of a PV into a ring, and frames of a ring to a PV, as NTNDArray over pvAccess."""

try:
    import p4p as _p4p  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "p4p":
        raise
    raise ModuleNotFoundError('shmring.epics needs p4p: pip install "shmring[epics]"', name="p4p") from None

from shmring.epics._sink import PvaSink
from shmring.epics._source import PvaSource

__all__ = ["PvaSource", "PvaSink"]
