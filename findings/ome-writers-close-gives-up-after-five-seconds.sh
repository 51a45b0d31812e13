#!/usr/bin/env bash
# ome-writers: closing an OME-TIFF stream whose thread still has frames to write.
#
# Expected: close() "flushes any pending writes": when it has returned, all frames that append() took are in the
#   file, or there was an error.
# Seen: close() waits for its thread for five seconds and returns without a word. What is left is written while the
#   program continues, and is missing if it ends; and the OME-XML gets the number of frames of that moment, so
#   that readers never see the others.
# Versions: ome-writers 0.3.2, tifffile 2026.3.3, imagecodecs 2026.3.6, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   appended 400 frames, close() returned after 5 s
#   in the file: fewer
# Hurts: acquisitions that are faster than compression or disk for a while: the last frames are gone, and nothing
#   says so. Compare the number of frames afterwards.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ome-writers[tifffile]==0.3.2" tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'P'
import time

import numpy as np
from ome_writers import AcquisitionSettings, Dimension, OmeTiffFormat, create_stream

frame = np.random.default_rng(1).integers(0, 60000, (2048, 2048), "u2")
dimensions = [Dimension(name="t", count=None), Dimension(name="y", count=2048), Dimension(name="x", count=2048)]
stream = create_stream(
    AcquisitionSettings(
        root_path="take.ome.tiff", dimensions=dimensions, dtype="uint16", format=OmeTiffFormat(), compression="lzw"
    )
)
for _ in range(400):
    stream.append(frame)
began = time.monotonic()
try:
    stream.close()
except Exception as error:  # of the metadata, in a file that is being written
    print("close() raised", type(error).__name__)
print(f"appended 400 frames, close() returned after {time.monotonic() - began:.0f} s")
P
"$work/venv/bin/python" - <<'P'
import tifffile

with tifffile.TiffFile("take.ome.tiff") as file:
    found = len(file.pages)
print("in the file:", "fewer" if found < 400 else "all")
raise SystemExit(found >= 400)
P
