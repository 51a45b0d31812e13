#!/usr/bin/env bash
# torch: a DataLoader with workers, whose batch has something in it that cannot be pickled.
#
# Expected: next() raises the PicklingError, as it raises every other exception of a worker, with its traceback.
# Seen: the worker puts the batch into a multiprocessing.Queue, whose thread pickles it later, prints the
#   traceback to stderr and continues. Nothing arrives. The trainer waits for that batch forever, without a
#   message of its own: the worker is alive, which is all that the DataLoader looks at.
# Versions: torch 2.13.0 (CPU), numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   worker: Can't pickle local object 'Samples.__getitem__.<locals>.<lambd...
#   trainer: waits, after 10 s
# Hurts: batches with lambdas, open files, locks, generators or classes made in a function: a training that
#   stops at its first batch, in a log where the worker's traceback is long gone. Set timeout=.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$work/seen.py" <<'P'
from torch.utils.data import DataLoader, Dataset


class Samples(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return lambda: index


if __name__ == "__main__":
    print(next(iter(DataLoader(Samples(), collate_fn=list, num_workers=1))))
P
code=0
timeout 10 "$work/venv/bin/python" -W ignore "$work/seen.py" >"$work/out" 2>"$work/err" || code=$?
said=$(grep -m 1 -o "Can't pickle.*\|Can't get local object.*" "$work/err")
echo "worker: ${said:0:62}..."
if [ "$code" = 124 ]; then echo "trainer: waits, after 10 s"; else echo "trainer: ended with $code"; fi
[ "$code" = 124 ] && [ ! -s "$work/out" ]
