"""A driver in C with four buffers, a consumer in Python.

Compiles driver.c with `cc` against the headers that shmring brings, runs it, and checks its pictures.

    python run.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import shmring

PICTURES = 5_000
DAMAGED = PICTURES // 50  # as driver.c has it


def compile_driver(folder: str) -> Path:
    program = Path(folder) / "driver"
    source = Path(__file__).with_name("driver.c")
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
        shmring.Ring.create(shape=(64, 64), dtype="u1", slots=12) as ring,
        ring.consumer(label="run.py") as frames,
    ):
        program = subprocess.Popen([compile_driver(folder), ring.name, str(PICTURES)])
        while True:
            try:
                frame = frames.get(timeout=1)
            except shmring.RingEmpty:
                if program.poll() is not None:
                    break  # it ended before it was a producer
                continue
            except (shmring.RingClosed, shmring.ProducerDied):
                break
            right += bool((frame.array == frame.seq % 256).all())
        code = program.wait()
        lost = frames.lost

    print(f"run.py: {right} pictures right, {lost} incomplete; the C program ended with {code}")
    return 0 if (right, lost, code) == (PICTURES - DAMAGED, DAMAGED, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
