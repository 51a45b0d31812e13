"""A camera of Aravis whose buffers are slots of a ring, a consumer in Python.

Compiles grab.c with `cc` against the headers of shmring and of Aravis (Debian: libaravis-dev, and
libusb-1.0-0-dev, for which its pkg-config file asks), runs it with the fake camera, and checks the pictures:
a gray ramp that moves by one each time.

    python run.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import shmring

PICTURES = 200
SHAPE = (512, 512)  # of the fake camera


def aravis_flags() -> list[str] | None:
    if shutil.which("cc") is None or shutil.which("pkg-config") is None:
        return None
    ask = ["pkg-config", "--cflags", "--libs", "aravis-0.8"]
    said = subprocess.run(ask, capture_output=True, text=True, check=False)
    return said.stdout.split() if said.returncode == 0 else None


def compile_grab(folder: str, flags: list[str]) -> Path:
    program = Path(folder) / "grab"
    source = Path(__file__).with_name("grab.c")
    options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I", shmring.get_include()]
    subprocess.run(["cc", *options, str(source), "-o", str(program), *flags], check=True)
    return program


def main() -> int:
    flags = aravis_flags()
    if flags is None:
        print("this example needs a C compiler, pkg-config and the headers of Aravis", file=sys.stderr)
        return 2
    ramp = np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1]))
    right = pictures = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        # Aravis stamps pictures by the wall clock, or by that of the camera.
        shmring.Ring.create(shape=SHAPE, dtype="u1", slots=12, attrs={"clock": "realtime"}) as ring,
        ring.consumer(label="run.py") as frames,
    ):
        program = subprocess.Popen([compile_grab(folder, flags), ring.name, str(PICTURES)])
        for frame in frames.iter(timeout=30):
            right += np.array_equal(frame.array, (ramp + int(frame.array[0, 0])) % 255)
            pictures += 1
        code = program.wait()
        lost = frames.lost

    print(f"run.py: {right} of {pictures} pictures right, {lost} lost; the C program ended with {code}")
    return 0 if (right, pictures, lost, code) == (PICTURES, PICTURES, 0, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
