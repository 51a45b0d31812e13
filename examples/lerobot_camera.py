"""A camera for LeRobot that is a ring: the class has the methods of lerobot.cameras.Camera.

The camera's process fills the ring; this one reads it as a robot's control loop does. It runs without
LeRobot. docs/how-to/robots.md has the few lines that make it one of LeRobot's cameras.

    python lerobot_camera.py
"""

import contextlib
import itertools
import multiprocessing
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

import shmring


class RingCamera:
    """The newest frames of a ring."""

    def __init__(self, name: str, timeout: float = 10.0) -> None:
        self.name, self.timeout = name, timeout
        self.fps: float | None = None
        self.width: int | None = None
        self.height: int | None = None
        self._ring: shmring.Ring | None = None
        self._frames: shmring.Consumer | None = None
        self._newest: tuple[npt.NDArray[Any], float] | None = None

    @staticmethod
    def find_cameras() -> list[dict[str, Any]]:
        """The rings of this machine that have images."""
        return [
            {"name": ring.name, "type": "shmring", "id": ring.name, "shape": ring.shape}
            for ring in shmring.rings()
            if ring.shape is not None and len(ring.shape) in (2, 3)
        ]

    @property
    def is_connected(self) -> bool:
        return self._ring is not None

    def connect(self, warmup: bool = True) -> None:
        if self._ring is not None:
            raise ConnectionError(f"camera {self.name!r} is connected already")
        self._ring = shmring.Ring.attach(self.name, timeout=self.timeout)
        self._frames = self._ring.consumer(lossless=False, start="newest", label="lerobot")
        self.height, self.width = self._ring.shape[:2]
        self.fps = self._ring.attrs.get("frame_rate")
        if warmup:
            try:
                self.async_read(1000 * self.timeout)
            except BaseException:
                self.disconnect()
                raise

    def read(self) -> npt.NDArray[Any]:
        """The next new frame."""
        return self.async_read(1000 * self.timeout)

    def async_read(self, timeout_ms: float = 200) -> npt.NDArray[Any]:
        """The newest frame that was not returned yet; TimeoutError if there is none in time."""
        if self._frames is None:
            raise ConnectionError(f"camera {self.name!r} is not connected")
        with self._frames.latest(timeout=timeout_ms / 1000) as frame:
            # LeRobot keeps images, so it gets copies. On Linux, time.perf_counter is CLOCK_MONOTONIC.
            self._newest = frame.array.copy(), frame.timestamp_ns / 1e9
        return self._newest[0]

    def read_latest(self, max_age_ms: float = 500) -> npt.NDArray[Any]:
        """The newest frame, returned before or not; TimeoutError if it is older than that."""
        with contextlib.suppress(TimeoutError):
            self.async_read(0)
        if self._newest is None:
            raise RuntimeError(f"camera {self.name!r} has taken no image yet")
        image, taken = self._newest
        age = 1000 * (time.perf_counter() - taken)
        if age > max_age_ms:
            raise TimeoutError(f"the newest image of camera {self.name!r} is {age:.0f} ms old")
        return image

    def disconnect(self) -> None:
        if self._ring is None:
            raise ConnectionError(f"camera {self.name!r} is not connected")
        assert self._frames is not None
        self._frames.close()
        self._ring.close()
        self._ring = self._frames = self._newest = None


def camera(name: str, stop: Any) -> None:
    """A camera of 100 images per second; image n is full of n."""
    attrs = {"frame_rate": 100.0, "color": "rgb"}
    ring = shmring.Ring.create(name, shape=(48, 64, 3), dtype="u1", slots=8, attrs=attrs)
    with ring, ring.producer(on_full="drop") as out:
        while not stop.wait(0.01):
            out.put(np.full((48, 64, 3), out.next_seq % 256, "u1"))


def main() -> int:
    context = multiprocessing.get_context("spawn")
    name, stop = f"lerobot-{time.time_ns()}", context.Event()
    process = context.Process(target=camera, args=(name, stop))
    process.start()
    wrist = RingCamera(name, timeout=30)
    wrist.connect()
    print(f"{wrist.width} x {wrist.height} at {wrist.fps} frames/s")
    seen = [wrist.async_read(timeout_ms=5000) for _ in range(10)]
    fresh = all(int(later[0, 0, 0]) != int(image[0, 0, 0]) for image, later in itertools.pairwise(seen))
    print(f"10 images, each newer than the one before: {fresh}")
    print(f"the newest has the shape {wrist.read_latest(max_age_ms=5000).shape}")
    wrist.disconnect()
    stop.set()
    process.join(30)
    return 0 if fresh and process.exitcode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
