#!/usr/bin/env bash
# OpenCV: VideoCapture of numbered pictures ("shot-%02d.png"), one of which is smaller than the first.
#
# Expected: read() returns each picture in its own size, or False where the size changes.
# Seen: read() returns True, and the small picture scaled up to the size of the first one, with values between its
#   own ones. With the backend CAP_IMAGES each picture comes as it is.
# Versions: opencv-python-headless 5.0.0.93, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   FFMPEG: (48, 64, 3) True, (48, 64, 3) False, (48, 64, 3) True
#   CV_IMAGES: (48, 64, 3) True, (24, 32, 3) True, (48, 64, 3) True
#   (True: these are the values of the file)
# Hurts: measurements on pictures whose region of interest was changed in between: distances and counts of pixels
#   are wrong by the factor of the sizes, and nothing says so. Name the backend, and compare the shapes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'P'
import cv2
import numpy as np

random = np.random.default_rng(1)
pictures = [random.integers(0, 256, (height, width, 3), np.uint8) for height, width in [(48, 64), (24, 32), (48, 64)]]
for number, picture in enumerate(pictures):
    cv2.imwrite(f"shot-{number:02d}.png", picture)


def seen(backend):
    capture = cv2.VideoCapture("shot-%02d.png", backend)
    said = []
    for picture in pictures:
        ok, came = capture.read()
        assert ok
        said.append(f"{came.shape} {np.array_equal(came, picture)}")
    return f"{capture.getBackendName()}: {', '.join(said)}"


lines = [seen(cv2.CAP_ANY), seen(cv2.CAP_IMAGES)]
print(*lines, sep="\n")
raise SystemExit(
    lines
    != [
        "FFMPEG: (48, 64, 3) True, (48, 64, 3) False, (48, 64, 3) True",
        "CV_IMAGES: (48, 64, 3) True, (24, 32, 3) True, (48, 64, 3) True",
    ]
)
P
