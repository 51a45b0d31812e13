#!/usr/bin/env bash
# FFmpeg (by PyAV): conversion of a yuv420p picture with an odd width to p010le.
#
# Expected: 33 pixels have 17 pairs of colours in each row, as in nv12 and p010be, all of them converted.
# Seen: p010le and p016le have 16: the last pair of each row keeps what the memory held, so that the last column
#   has another colour in each run (zeros, that is green, with the ffmpeg 5.1.9 of Debian 12). No error. nv12,
#   p010be and even widths are right; p010le made from yuv420p10le is wrong in the same way.
# Versions: av 18.1.0 (FFmpeg 8.1), numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   nv12 33: right
#   p010be 33: right
#   p010le 33: last colours wrong
#   p016le 33: last colours wrong
#   p010le 32: right
# Hurts: 10-bit pipelines that crop to an odd width: a coloured line at the right edge, and checksums that differ
#   from run to run. Crop to even widths, or convert to p010be and swap the bytes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import av
import numpy as np

U, V = 50, 200


def colours(name, width):
    """The pairs of colours of a picture that has one colour."""
    picture = av.VideoFrame(width, 17, "yuv420p")
    for plane, value in zip(picture.planes, (100, U, V)):
        np.frombuffer(plane, np.uint8)[:] = value
    plane = picture.reformat(format=name).planes[1]
    dtype, shift = ("u1", 0) if name == "nv12" else ("<u2" if name.endswith("le") else ">u2", 8)
    rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    pairs = (width + 1) // 2
    return rows[:, : 2 * pairs].reshape(-1, pairs, 2) >> shift


seen = []
for name, width in [("nv12", 33), ("p010be", 33), ("p010le", 33), ("p016le", 33), ("p010le", 32)]:
    right = (colours(name, width) == [U, V]).all(axis=2)
    said = "right" if right.all() else "last colours wrong" if right[:, :-1].all() else "wrong"
    seen.append(f"{name} {width}: {said}")
print(*seen, sep="\n")
wanted = ["right", "right", "last colours wrong", "last colours wrong", "right"]
raise SystemExit([line.partition(": ")[2] for line in seen] != wanted)
P
