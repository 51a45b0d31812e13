#!/usr/bin/env bash
# sounddevice (PortAudio): the clock of stream.time, and of the times that a callback gets.
#
# Expected: a clock that only goes forward at its pace, such as time.monotonic(): PortAudio documents values that
#   increase monotonically from an unspecified origin.
# Seen: stream.time is time.time(), to the millisecond: the wall clock, which NTP and people set. So are
#   inputBufferAdcTime and currentTime.
# Versions: sounddevice 0.5.6, libportaudio2 19.6.0-1.2 (Debian 12; needs that package), CPython 3.11; ALSA's null
#   device, so that no hardware is needed. Seen 2026-11-30:
#   stream.time - time.time() is small: True
#   stream.time - time.monotonic() is small: False
#   currentTime in the callback - time.time() is small: True
# Hurts: programs that take the times as CLOCK_MONOTONIC, or measure a distance across a clock that was set: blocks of
#   sound are matched with the wrong pictures. Use the differences within one callback only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check sounddevice==0.5.6 numpy==2.4.6
printf '%s\n' '</usr/share/alsa/alsa.conf>' 'pcm.!default { type null }' >"$work/asound.conf"
ALSA_CONFIG_PATH="$work/asound.conf" "$work/venv/bin/python" - <<'P'
import threading
import time

import sounddevice

called, came = threading.Event(), []


def callback(indata, frames, times, status):
    came.append(times.currentTime - time.time())
    called.set()


with sounddevice.InputStream(channels=1, samplerate=48000, blocksize=480, device="default", callback=callback) as stream:
    by_wall, by_monotonic = stream.time - time.time(), stream.time - time.monotonic()
    called.wait(10)
seen = [
    f"stream.time - time.time() is small: {abs(by_wall) < 0.5}",
    f"stream.time - time.monotonic() is small: {abs(by_monotonic) < 0.5}",
    f"currentTime in the callback - time.time() is small: {abs(came[0]) < 0.5}",
]
print(*seen, sep="\n")
raise SystemExit([line.rpartition(" ")[2] for line in seen] != ["True", "False", "True"])
P
