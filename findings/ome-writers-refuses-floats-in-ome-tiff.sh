#!/usr/bin/env bash
# ome-writers: an OME-TIFF stream of float32 frames.
#
# Expected: OME-TIFF has the pixel type "float", so dtype="float32" works, as with OME-Zarr; AcquisitionSettings
#   accepts it for both.
# Seen: create_stream() raises a ValidationError: the name of the dtype is taken for the name of the pixel type, and
#   'float32' is none. float64 (in OME "double") alike. Integers work.
# Versions: ome-writers 0.3.2, ome-types 0.7.0, tifffile 2026.3.3, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   uint16: works
#   float32: ValidationError
#   float64: ValidationError
# Hurts: recordings of processed images. Write .ome.zarr, or integers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "ome-writers[tifffile]==0.3.2" ome-types==0.7.0 tifffile==2026.3.3 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" -W ignore - <<'P'
import numpy as np
from ome_writers import AcquisitionSettings, Dimension, OmeTiffFormat, create_stream


def said(dtype):
    dimensions = [Dimension(name=name, count=count) for name, count in (("t", 2), ("y", 16), ("x", 16))]
    settings = AcquisitionSettings(
        root_path=f"{dtype}.ome.tiff", dimensions=dimensions, dtype=dtype, format=OmeTiffFormat()
    )
    try:
        with create_stream(settings) as stream:
            for _ in range(2):
                stream.append(np.ones((16, 16), dtype))
    except Exception as error:
        return type(error).__name__
    return "works"


seen = [said(dtype) for dtype in ("uint16", "float32", "float64")]
for dtype, one in zip(("uint16", "float32", "float64"), seen):
    print(f"{dtype}: {one}")
raise SystemExit(seen != ["works", "ValidationError", "ValidationError"])
P
