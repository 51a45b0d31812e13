"""For Bluesky: detectors of ophyd-async whose frames come from a ring, and go into an HDF5 recording."""

try:
    import ophyd_async as _ophyd_async  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "ophyd_async":
        raise
    raise ModuleNotFoundError(
        'shmring.bluesky needs ophyd-async: pip install "shmring[bluesky]"', name="ophyd_async"
    ) from None

from shmring.bluesky._detector import RingDataLogic, RingDetector

__all__ = ["RingDetector", "RingDataLogic"]
