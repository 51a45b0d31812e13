#!/usr/bin/env bash
# torch: a tensor that is conjugated lazily, out of a DataLoader's worker or through torch.multiprocessing.Queue.
#
# Expected: the batch of a DataLoader has the same values with num_workers=1 as with num_workers=0.
# Seen: Tensor.conj() and .conj().imag only set a bit, which says how the memory is to be read. The reducer that
#   sends tensors between processes sends storage, offset, shape and strides, and leaves the bit out: imaginary
#   parts arrive with the wrong sign, without an exception or a warning.
# Versions: torch 2.13.0 (CPU), numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   num_workers=0: (1-2j) -2.0
#   num_workers=1: (1+2j) 2.0
#   torch.multiprocessing.Queue: (1+2j)
# Hurts: datasets of spectra, radar and MRI (k-space) data, and programs that send them between processes: wrong
#   training data with workers, right ones while debugging without. Call resolve_conj() and resolve_neg() before
#   a tensor leaves the process.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$work/seen.py" <<'P'
import torch
from torch.utils.data import DataLoader


def conjugate(samples):
    return samples[0].conj()


def imaginary(samples):
    return samples[0].conj().imag


def batch(collate, workers):
    samples = [torch.tensor(1 + 2j)]
    return next(iter(DataLoader(samples, collate_fn=collate, num_workers=workers))).item()


if __name__ == "__main__":
    seen = {}
    for workers in [0, 1]:
        seen[workers] = batch(conjugate, workers), batch(imaginary, workers)
        print(f"num_workers={workers}:", *seen[workers])
    queue = torch.multiprocessing.Queue()
    queue.put(torch.tensor(1 + 2j).conj())
    sent = queue.get().item()
    print("torch.multiprocessing.Queue:", sent)
    raise SystemExit(not (seen[0] == (1 - 2j, -2.0) and seen[1] == (1 + 2j, 2.0) and sent == 1 + 2j))
P
"$work/venv/bin/python" -W ignore "$work/seen.py"
