#!/usr/bin/env bash
# FFmpeg (by PyAV): the source "testsrc2" with an odd size.
#
# Expected: pictures of the size that was asked for, as the sources "color" and "testsrc" give; or an error, if the
#   pixel format allows no odd sizes (yuv420p does).
# Seen: testsrc2 rounds the size down to what the colours of its format divide evenly: 32x16 for 33x17, with no
#   message. If a filter behind it asks for rgb24, the same source gives 33x17.
# Versions: av 18.1.0 (FFmpeg 8.1), CPython 3.11. The ffmpeg 5.1.9 of Debian 12 rounds "color" down, too.
#   Seen 2026-11-30:
#   color: 33x17 yuv420p
#   testsrc2: 32x16 yuv420p
#   testsrc: 33x17 rgb24
#   testsrc2, format=rgb24 behind it: 33x17 rgb24
# Hurts: tests of odd sizes, which then test even ones; and raw streams whose reader was told the size that was asked
#   for: every picture is sheared.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0
"$work/venv/bin/python" - <<'P'
import av

SOURCES = {
    "color": "color=size=33x17",
    "testsrc2": "testsrc2=size=33x17",
    "testsrc": "testsrc=size=33x17",
    "testsrc2, format=rgb24 behind it": "testsrc2=size=33x17,format=rgb24",
}
seen = []
for name, text in SOURCES.items():
    with av.open(text, format="lavfi") as source:
        picture = next(source.decode(video=0))
        seen.append(f"{name}: {picture.width}x{picture.height} {picture.format.name}")
print(*seen, sep="\n")
raise SystemExit([line.split()[-2] for line in seen] != ["33x17", "32x16", "33x17", "33x17"])
P
