#!/usr/bin/env bash
# ome-writers: one buffer, filled again and again, and given to append() of an OME-TIFF stream.
#
# Expected: when append(frame) has returned, the frame is in the file or copied, so that its memory is free, as
#   with the zarr-python backend.
# Seen: the TIFF backend puts the array itself into the queue of its thread. What is in the memory when the thread
#   comes to it is what the file gets: each frame shows a later one. Nothing is raised. The queue has no limit
#   either, so a slow disk fills the memory with frames.
# Versions: ome-writers 0.3.2, tifffile 2026.3.3, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   zarr-python: 40 of 40 frames right
#   tiff: fewer than 40 frames right
# Hurts: programs that hand over a camera's buffer, a slot of a ring or one array that is filled again, as is usual
#   with most writers of arrays. Copy each frame.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ome-writers[tifffile,zarr-python]==0.3.2" tifffile==2026.3.3 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'P'
import numpy as np
import tifffile
import zarr
from ome_writers import AcquisitionSettings, Dimension, OmeTiffFormat, OmeZarrFormat, create_stream

COUNT, SIZE = 40, 1024


def right(path, format):
    dimensions = [Dimension(name=name, count=count) for name, count in (("t", COUNT), ("y", SIZE), ("x", SIZE))]
    buffer = np.zeros((SIZE, SIZE), "u2")
    with create_stream(
        AcquisitionSettings(root_path=path, dimensions=dimensions, dtype="uint16", format=format)
    ) as stream:
        for number in range(COUNT):
            buffer[:] = number
            stream.append(buffer)
    found = zarr.open_group(path)["0"][:] if path.endswith("zarr") else tifffile.imread(path)
    return sum(bool((frame == number).all()) for number, frame in enumerate(found))


zarr_right, tiff_right = right("a.ome.zarr", OmeZarrFormat(backend="zarr-python")), right("a.ome.tiff", OmeTiffFormat())
print(f"zarr-python: {zarr_right} of {COUNT} frames right")
print(f"tiff: {'fewer than 40' if tiff_right < COUNT else 'all'} frames right")
raise SystemExit(zarr_right != COUNT or tiff_right == COUNT)
P
