#!/usr/bin/env bash
# spdl: the published way to use an arena, iterate_in_subprocess(..., arena=SharedMemorySegmentPool(...)).
#
# Expected: a program that iterates to the end, and lets go of all that it got, ends without a word.
# Seen: Python's resource tracker prints a traceback with a KeyError for each segment of the pool and one for its
#   control block. Worker and parent share one tracker: the worker takes each name out of it when it attaches, and
#   the parent once more when it unlinks. Values and exit code are right.
# Versions: spdl 0.8.0, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   exit code 0, KeyErrors for 4 segments: 5
# Hurts: logs that are searched for tracebacks, and people who look for the error in their own program.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check spdl==0.8.0 numpy==2.4.6
cat >"$work/seen.py" <<'P'
import numpy as np
from spdl.pipeline import SharedMemorySegmentPool, iterate_in_subprocess


class Items:
    def __iter__(self):
        for number in range(4):
            yield np.full(100_000, number)


def main():
    pool = SharedMemorySegmentPool(1 << 20, 4)
    for item in iterate_in_subprocess(Items, arena=pool, mp_context="fork"):
        assert item.min() == item.max()


if __name__ == "__main__":
    main()
P
code=0
"$work/venv/bin/python" -W ignore "$work/seen.py" 2>"$work/err" || code=$?
count=$(grep -c "^KeyError: '/psm_" "$work/err" || true)
echo "exit code $code, KeyErrors for 4 segments: $count"
[ "$code $count" = "0 5" ]
