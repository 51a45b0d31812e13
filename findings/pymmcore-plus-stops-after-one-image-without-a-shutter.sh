#!/usr/bin/env bash
# pymmcore-plus: a time lapse with a camera, and no shutter.
#
# Expected: three images, as Micro-Manager's own core takes them: without a shutter there is nothing to open and close.
#   Or an error before the first exposure.
# Seen: auto-shutter is on by default. The engine of pymmcore-plus closes the shutter after each image that it snaps,
#   also where there is none: RuntimeError 'No device with label ""', in the acquisition's thread, after the first
#   exposure and before its frameReady. join() returns, and sequenceFinished comes as after a good run. Images that
#   the engine takes as one hardware sequence (interval 0) do come. core.setAutoShutter(False) helps. UniMMCore with
#   a camera in Python does the same.
# Versions: pymmcore-plus 0.18.1, pymmcore 12.5.1.75.0, mm-test-adapters 75.20261014.post1, useq-schema 0.9.2,
#   numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   core.snap: (512, 512)
#   interval 0: 3 images, finished
#   interval 1 ms: 0 images, finished, RuntimeError: No device with label ""
#   interval 1 ms, no auto-shutter: 3 images, finished
# Hurts: benches without a shutter: fast acquisitions work, time lapses end at once, and code that waits for
#   sequenceFinished believes that all is there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pymmcore-plus==0.18.1 pymmcore==12.5.1.75.0 \
    mm-test-adapters==75.20261014.post1 useq-schema==0.9.2 numpy==2.4.6
export PYTEST_RUNNING=1 # no log file
"$work/venv/bin/python" - 2>/dev/null <<'P'
import os
import sys
import threading

import useq
from pymmcore_plus import CMMCorePlus


class Output:
    images, finished = 0, False

    def frameReady(self, image):
        self.images += 1

    def sequenceFinished(self, sequence):
        self.finished = True


def with_camera():
    core = CMMCorePlus()
    core.loadDevice("Camera", "DemoCamera", "DCam")
    core.initializeDevice("Camera")
    core.setCameraDevice("Camera")
    core.setExposure(1)
    return core


def acquire(interval, auto_shutter=True):
    core, output, errors = with_camera(), Output(), []
    core.setAutoShutter(auto_shutter)
    threading.excepthook = lambda what: errors.append(f"{what.exc_type.__name__}: {what.exc_value}")
    core.run_mda(useq.MDASequence(time_plan={"interval": interval, "loops": 3}), output=output).join()
    words = [f"{output.images} images", *(["finished"] if output.finished else []), *errors]
    return ", ".join(words)


seen = {
    "core.snap": str(with_camera().snap().shape),
    "interval 0": acquire(0),
    "interval 1 ms": acquire(0.001),
    "interval 1 ms, no auto-shutter": acquire(0.001, auto_shutter=False),
}
for what, outcome in seen.items():
    print(f"{what}: {outcome}")
whole = "3 images, finished"
failed = '0 images, finished, RuntimeError: No device with label ""'
sys.stdout.flush()
os._exit(list(seen.values()) != ["(512, 512)", whole, failed, whole])  # not by way of Micro-Manager's threads
P
