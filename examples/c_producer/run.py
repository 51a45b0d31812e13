"""A producer in C, a consumer in Python.

Compiles producer.c with `cc` against the headers that shmring brings, runs it, and checks its frames.

    python run.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import shmring

FRAMES = 20_000
SETTINGS = np.dtype([("gain", "<u4"), ("range", "<u4")])


def compile_producer(folder: str) -> Path:
    program = Path(folder) / "producer"
    source = Path(__file__).with_name("producer.c")
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-I", shmring.get_include(), str(source), "-o", str(program)], check=True)
    return program


def main() -> int:
    if shutil.which("cc") is None:
        print("this example needs a C compiler named cc", file=sys.stderr)
        return 2
    right = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        shmring.Ring.create(shape=(1024,), dtype="i4", slots=16, meta=SETTINGS) as ring,
        ring.consumer(label="run.py") as frames,
    ):
        program = subprocess.Popen([compile_producer(folder), ring.name, str(FRAMES)])
        ramp = np.arange(1024, dtype="i4")
        while True:
            try:
                frame = frames.get(timeout=1)
            except shmring.RingEmpty:
                if program.poll() is not None:
                    break  # it ended before it was a producer
                continue
            except (shmring.RingClosed, shmring.ProducerDied):
                break
            samples_right = np.array_equal(frame.array, ramp + frame.seq * 1000)
            right += samples_right and int(frame.meta["gain"]) == frame.seq % 8
        code = program.wait()
        lost = frames.lost

    print(f"run.py: {right} of {FRAMES} frames right, {lost} lost; the C program ended with {code}")
    return 0 if right == FRAMES and lost == 0 and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
