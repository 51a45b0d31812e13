"""Two policies on one ring: a recorder that must get every frame, and a viewer that may miss some.

The camera never waits for the viewer, however slow it is; the viewer knows exactly what it missed.

    python camera_recorder_viewer.py
"""

import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import shmring

FRAMES = 400
SHAPE = (240, 320)
EXPOSURE = np.dtype([("microseconds", "<u4")])  # travels with each frame


def picture(number: int) -> np.ndarray:
    """What the camera sees as frame `number`: a gradient that moves."""
    rows, columns = SHAPE
    return ((np.arange(rows)[:, np.newaxis] + np.arange(columns) + number) % 256).astype("u1")


def camera(ring: shmring.Ring) -> None:
    with ring, ring.producer() as out:
        out.wait_for_consumers(2, timeout=30)  # so that both see frame 0
        for number in range(FRAMES):
            with out.claim() as slot:  # the camera writes straight into shared memory
                slot.array[...] = picture(number)
                slot.meta = (100 + number,)
            time.sleep(0.001)


def recorder(ring: shmring.Ring, path: Path) -> None:
    """Lossless: if the disk were too slow, the camera would have to wait (or drop, with on_full="drop")."""
    with ring, ring.consumer(label="recorder") as frames, path.open("wb") as file:
        for frame in frames:
            file.write(frame)  # from shared memory into the file, no copy between


def viewer(ring: shmring.Ring, result: Connection) -> None:
    """Lossy: the frame on screen stays whole while it is held, although the camera continues."""
    shown = torn = 0
    with ring, ring.consumer(lossless=False, label="viewer") as frames:
        for frame in frames:
            time.sleep(0.02)  # drawing takes long
            shown += 1
            number = int(frame.meta["microseconds"]) - 100
            torn += not np.array_equal(frame.array, picture(number))
        result.send((shown, frames.lost, torn))


def main() -> int:
    spawn = multiprocessing.get_context("spawn")
    result, viewers_end = spawn.Pipe(duplex=False)
    with (
        tempfile.TemporaryDirectory() as folder,
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=16, meta=EXPOSURE) as ring,
    ):
        path = Path(folder) / "recording.raw"
        processes = [
            spawn.Process(target=recorder, args=(ring, path), daemon=True),
            spawn.Process(target=viewer, args=(ring, viewers_end), daemon=True),
            spawn.Process(target=camera, args=(ring,), daemon=True),  # a Ring goes along by pickle
        ]
        for process in processes:
            process.start()
        viewers_end.close()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            print("a process failed")
            return 1
        recording = np.fromfile(path, "u1").reshape(-1, *SHAPE)
        shown, lost, torn = result.recv()

    complete = len(recording) == FRAMES and all(
        np.array_equal(image, picture(number)) for number, image in enumerate(recording)
    )
    print(f"camera: {FRAMES} frames; recorder: {len(recording)}, {'all right' if complete else 'WRONG'}")
    print(f"viewer: {shown} shown + {lost} lost = {shown + lost}; {torn} torn")
    return 0 if complete and shown + lost == FRAMES and torn == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
