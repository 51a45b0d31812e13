"""The detector, and its data logic for detectors of other kinds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse

from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    PathProvider,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
)

from shmring import Ring
from shmring._ring import ring_or_name
from shmring.bluesky._take import Take

MIMETYPE = "application/x-hdf5"


class RingDataLogic(DetectorDataLogic):  # type: ignore[misc]
    """Records a ring into an HDF5 file, to which the documents of the run point.

    For a detector with logic of its own that starts and stops the camera: everything that is published
    between `prepare` and `unstage` gets into the file. If the ring streams all the time, take `RingDetector`.

    Documents describe four datasets of the recording: the frames, under the detector's own key, and, with a
    suffix, ``-seq``, ``-timestamp_ns`` and ``-lost_before``, the number of frames lost before each one.

    Parameters
    ----------
    ring : Ring or str
        What to record. A name is attached when a run is prepared.
    path_provider : ophyd_async.core.PathProvider
        Where the file goes; ``.h5`` is added to its file name.
    lossless : bool
        False: never hold the producer back; what a slow disk loses is counted in ``-lost_before``.
    datakey_suffix : str
        For a detector with several data logics.
    """

    def __init__(
        self,
        ring: Ring | str,
        path_provider: PathProvider,
        *,
        lossless: bool = True,
        datakey_suffix: str = "",
    ) -> None:
        self.datakey_suffix = datakey_suffix
        self._wanted, self._path_provider, self._lossless = ring_or_name(ring), path_provider, lossless
        self._take: Take | None = None
        self._attached: Ring | None = None

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        """Open a file, and record into it."""
        await self.stop()
        place = self._path_provider(datakey_name)
        path = Path(place.directory_path, f"{place.filename}.h5")
        uri = f"{place.directory_uri}{path.name}"
        if not urlparse(uri).path.endswith(f"/{path.name}"):  # neither ophyd-async nor Tiled escapes it
            raise ValueError(
                f"{uri!r} does not lead to the file {path}: choose a folder and a file name without # and ?"
            )
        if os.path.lexists(path):
            raise FileExistsError(
                f"{path} exists: each run needs a file of its own, as UUIDFilenameProvider() names them"
            )
        if place.create_dir_depth:
            os.makedirs(path.parent, exist_ok=True)
        ring = self._wanted
        if isinstance(ring, str):
            ring = self._attached = Ring.attach(ring)
        self._take = take = Take(ring, path, lossless=self._lossless)
        await self._begin(take)
        return StreamResourceDataProvider(
            uri=uri,
            resources=take.resources(datakey_name),
            mimetype=MIMETYPE,
            collections_written_signal=take.written,
        )

    async def _begin(self, take: Take) -> None:
        await take.record(None)

    async def stop(self) -> None:
        """End the recording; what went wrong with it is raised here."""
        take, self._take = self._take, None
        attached, self._attached = self._attached, None
        try:
            if take is not None:
                await take.stop()
        finally:
            if attached is not None:
                attached.close()

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        """Return the key of the frames."""
        return [datakey_name]


class _OnDemand(RingDataLogic):
    """Records only what a trigger asks for."""

    frames: int | None = 1

    async def _begin(self, take: Take) -> None:
        pass

    async def record(self) -> None:
        if self._take is not None:
            await self._take.record(self.frames)

    async def wait(self) -> None:
        if self._take is not None:
            await self._take.wait()


class _Trigger(DetectorTriggerLogic):  # type: ignore[misc]
    def __init__(self, data: _OnDemand) -> None:
        self._data = data

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        if livetime or deadtime:
            raise ValueError(
                f"livetime={livetime} and deadtime={deadtime} asked for, but a RingDetector takes frames as "
                f"they come: set the camera's exposure where the camera is run"
            )
        self._data.frames = num or None


class _Acquire(DetectorAcquireLogic):  # type: ignore[misc]
    def __init__(self, data: _OnDemand) -> None:
        self._data = data

    async def start_acquiring(self) -> None:
        await self._data.record()

    async def wait_for_idle(self) -> None:
        await self._data.wait()

    async def ensure_stopped(self) -> None:
        await self._data.stop()


class RingDetector(StandardDetector):  # type: ignore[misc]
    """A detector for plans: each trigger records the next frames of a ring that streams all the time.

    In a step scan that is one frame for each point; a fly scan that is prepared for n events takes the next n
    frames. All frames of a run are in one HDF5 recording, which others may read while it is written. See
    `RingDataLogic` for what the documents say.

    Parameters
    ----------
    ring : Ring or str
        A name is attached when a run is prepared.
    path_provider : ophyd_async.core.PathProvider
        Where the file goes; ``.h5`` is added to its file name.
    lossless : bool
        False: never hold the producer back; what a slow disk loses is counted in ``-lost_before``.
    name : str
        Of the detector: the key of its frames in the documents.

    Examples
    --------
    >>> from shmring.bluesky import RingDetector  # doctest: +SKIP
    >>> camera = RingDetector("camera", paths, name="camera")  # doctest: +SKIP
    >>> RE(bluesky.plans.count([camera], num=3))  # doctest: +SKIP
    """

    def __init__(
        self, ring: Ring | str, path_provider: PathProvider, *, lossless: bool = True, name: str = ""
    ) -> None:
        data = _OnDemand(ring, path_provider, lossless=lossless)
        self.add_detector_logics(_Trigger(data), _Acquire(data), data)
        super().__init__(name=name)
