#!/usr/bin/env bash
# numpy: numpy.asarray(memoryview) of records with many fields.
#
# Expected: reading the description of a buffer takes time in proportion to its number of fields, as making the
#   memoryview of the same array does.
# Seen: four times the fields take some twelve to sixteen times the time. numpy's parser of the buffer protocol's
#   format strings (PEP 3118), which is Python code, rebuilds the dtype for what follows each field. 8,000
#   fields took 2.0 s, 2,000 took 0.12 s; the memoryview itself 0.8 and 0.1 ms.
# Versions: numpy 2.4.6, CPython 3.11. Seen 2026-11-29:
#   memoryview: in proportion
#   asarray: more than six times the time for four times the fields
# Hurts: tables with a column per channel (detectors, electrophysiology) handed on as buffers: each
#   numpy.asarray, numpy.frombuffer with a format, or pickle-free exchange costs seconds. Pass the ndarray, or
#   bytes and the dtype, instead.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import time
import numpy as np


def seconds(work, argument):
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work(argument)
        best = min(best, time.process_time() - began)
    return best


few, many = (np.zeros(1, [(f"channel_{i}", "f4") for i in range(n)]) for n in (2_000, 8_000))
ratio = seconds(np.asarray, memoryview(many)) / seconds(np.asarray, memoryview(few))
direct = seconds(memoryview, many) / max(seconds(memoryview, few), 1e-5)
print("memoryview:", "in proportion" if direct < 12 else f"{direct:.0f} times")
print("asarray:", "more than six times the time for four times the fields" if ratio > 6 else f"{ratio:.1f} times")
raise SystemExit(not ratio > 6)
P
