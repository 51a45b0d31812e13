"""Decode -> filter -> encode: three processes, two rings.

Each stage reads its frame in place in one ring and writes its result in place in the next. The rings
even out stages of different speed: a stage that is ahead waits when its ring is full or empty.

    python pipeline.py              films need PyAV: pip install "shmring[video]"
"""

import contextlib
import importlib
import multiprocessing
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import shmring

av: Any = None
with contextlib.suppress(ImportError):
    av = importlib.import_module("av")

FRAMES = 100
SHAPE = (180, 320)
SUFFIX = "mkv" if av else "npy"


def scene(number: int) -> np.ndarray:
    """Frame `number` of the film: a grey gradient that moves, with a white bar."""
    image = (np.arange(SHAPE[0])[:, np.newaxis] * 2 + np.arange(SHAPE[1]) + 3 * number).astype("u1")
    image[:, number : number + 20] = 255
    return image


def invert(image: np.ndarray, out: np.ndarray) -> None:
    """Turn into the negative, mirrored."""
    np.subtract(255, image[:, ::-1], out=out)


def write_film(path: Path, images: Iterable[np.ndarray]) -> None:
    """Encode without loss, so that the result can be compared exactly."""
    if av is None:
        np.save(path, np.stack([image.copy() for image in images]))
        return
    with av.open(str(path), "w") as film:
        stream = film.add_stream("ffv1", rate=25, width=SHAPE[1], height=SHAPE[0], pix_fmt="gray")
        for image in images:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        film.mux(stream.encode(None))


def read_film(path: Path) -> Iterator[np.ndarray]:
    if av is None:
        yield from np.load(path)
        return
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            yield frame.to_ndarray(format="gray")


def decode(path: Path, ring: shmring.Ring) -> None:
    with ring, ring.producer() as out:
        out.wait_for_consumers(1, timeout=30)  # a ring that nobody reads holds nothing back
        for image in read_film(path):
            out.put(image)


def filter(source: shmring.Ring, target: shmring.Ring) -> None:
    with source, target, source.consumer() as frames, target.producer() as out:
        out.wait_for_consumers(1, timeout=30)
        for frame in frames:
            with out.claim() as slot:
                invert(frame.array, out=slot.array)
                slot.timestamp_ns = frame.timestamp_ns  # when it was decoded


def encode(ring: shmring.Ring, path: Path) -> None:
    with ring, ring.consumer() as frames:
        write_film(path, (frame.array for frame in frames))


def main() -> int:
    if av is None:
        print('PyAV is missing (pip install "shmring[video]"): using .npy files instead of films')
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=8) as decoded,
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=8) as filtered,
    ):
        original, result = Path(folder) / f"original.{SUFFIX}", Path(folder) / f"result.{SUFFIX}"
        write_film(original, map(scene, range(FRAMES)))
        stages = [
            spawn.Process(target=encode, args=(filtered, result), daemon=True),
            spawn.Process(target=filter, args=(decoded, filtered), daemon=True),
            spawn.Process(target=decode, args=(original, decoded), daemon=True),
        ]
        for stage in stages:
            stage.start()
        for stage in stages:
            stage.join()
        if any(stage.exitcode for stage in stages):
            print("a stage failed")
            return 1
        results = list(read_film(result))

    right, expected = 0, np.empty(SHAPE, "u1")
    for number, image in enumerate(results):
        invert(scene(number), out=expected)
        right += np.array_equal(image, expected)
    print(f"{FRAMES} frames in, {len(results)} out, {right} exactly as expected")
    return 0 if len(results) == right == FRAMES else 1


if __name__ == "__main__":
    sys.exit(main())
