#!/usr/bin/env bash
# torch with numpy 2: a thread that uses numpy.random for the first time while DataLoader forks its workers.
#
# Expected: `import numpy` has imported numpy.random, as it always did; a thread that draws random numbers is no
#   danger to a DataLoader that starts beside it.
# Seen: numpy 2 imports numpy.random when it is first used. `import torch` does not use it, but each worker of a
#   DataLoader does, to seed it. If a thread of the main process is in the middle of that import at the moment
#   of the fork, the worker inherits a lock of the import that nobody will ever open: it hangs before its first
#   sample, and the loop waits forever, without a message. With `import numpy.random` at the top it works.
# Versions: torch 2.13.0 (CPU), numpy 2.4.6, CPython 3.11 (which forks by default). Seen 2026-11-30:
#   numpy.random imported before: 8 batches
#   not imported before:          DataLoader timed out after 10 seconds
# Hurts: programs that make data in a thread (a simulated camera, an augmentation) and train beside it: they hang
#   now and then at the start, and never in a test that used numpy.random before.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 "torch==2.13.*"
cat >"$work/program.py" <<'P'
import sys
import threading

import numpy as np
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index


def draw():
    for seed in range(256):
        np.random.default_rng(seed).integers(0, 256, (32, 32))


if sys.argv[1] == "before":
    import numpy.random
threading.Thread(target=draw, daemon=True).start()
try:
    print(len(list(DataLoader(Numbers(), num_workers=2, timeout=10))), "batches")
except RuntimeError as error:
    print(error)
P
before=$("$work/venv/bin/python" "$work/program.py" before)
after=$(timeout -s KILL 60 "$work/venv/bin/python" "$work/program.py" not || true)
echo "numpy.random imported before: $before"
echo "not imported before:          $after"
test "$before" = "8 batches" && [[ "$after" == *"timed out"* ]]
