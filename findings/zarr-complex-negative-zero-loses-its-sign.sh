#!/usr/bin/env bash
# zarr: a chunk of complex negative zeros, read again.
#
# Expected: an array without compression or filters returns the bytes that were written, signs of zeros included;
#   float arrays do.
# Seen: float64 returns -0.0. complex128 returns +0.0: a chunk that equals the fill value is not stored at all
#   (write_empty_chunks is off by default), and for complex numbers -0.0-0.0j counts as equal to 0. One value
#   other than zero in the chunk, and all signs are kept. With config write_empty_chunks=True they always are.
# Versions: zarr 3.1.6, numpy 2.4.6, CPython 3.11. Seen 2026-11-29:
#   float64: kept
#   complex128: lost
#   complex128, one other value in the chunk: kept
#   complex128, write_empty_chunks: kept
# Hurts: recordings that are compared byte by byte with their source, and functions with a branch cut along the
#   real axis (log, sqrt), which tell +0 and -0 apart.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check zarr==3.1.6 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'P'
import numpy as np
import zarr


def kept(name, values, **config):
    stored = zarr.create_array(f"{name}.zarr", shape=values.shape, chunks=(4,), dtype=values.dtype, compressors=None, **config)
    stored[:] = values
    return "kept" if np.asarray(stored[:]).tobytes() == values.tobytes() else "lost"


real = np.full(4, -0.0)
both = np.full(4, complex(-0.0, -0.0))
mixed = both.copy()
mixed[0] = 1
seen = [
    f"float64: {kept('real', real)}",
    f"complex128: {kept('both', both)}",
    f"complex128, one other value in the chunk: {kept('mixed', mixed)}",
    f"complex128, write_empty_chunks: {kept('empty', both, config={'write_empty_chunks': True})}",
]
print(*seen, sep="\n")
raise SystemExit([line.rpartition(" ")[2] for line in seen] != ["kept", "lost", "kept", "kept"])
P
