"""SigMF: a description of the samples in a .npy recording, which stays as it is."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from shmring import attrs
from shmring._words import count
from shmring.attrs import RingAttrs
from shmring.recording._recording import Recording
from shmring.recording.formats._growing import data_offset, open_file

BITS = {"i": (8, 16, 32), "u": (8, 16, 32), "f": (32, 64), "c": (32, 64)}  # of a number, or half of it
VERSION = "1.2.0"
SECONDS = {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "nanosecond": 1e-9}


def write(recording: Recording, source: Path, target: Path) -> None:
    """Describe a recording."""
    if source.suffix != ".npy":
        raise ValueError(
            f"SigMF describes plain samples, as .npy recordings have them, not those of {source}"
        )
    if source.resolve().parent != target.resolve().parent:
        raise ValueError(f"a SigMF description is in the folder of its samples: {source.resolve().parent}")
    said = attrs.read(recording)
    samples, channels = _layout_of(recording, said)
    with open(source, "rb", opener=open_file) as file:
        offset = data_offset(file.fileno())
    described: dict[str, Any] = {
        "core:version": VERSION,
        "core:datatype": _datatype(recording.dtype),
        "core:dataset": source.name,
        "core:num_channels": channels,
        "core:recorder": "shmring",
        "core:description": f"ring {recording.ring!r}, {count(recording.lost, 'frame')} lost",
    }
    if (rate := _number(_sample_rate(said, samples))) is not None:
        described["core:sample_rate"] = rate
    if said.source:
        described["core:hw"] = said.source
    rest = source.stat().st_size - offset - len(recording) * samples * channels * recording.dtype.itemsize
    if rest:
        described["core:trailing_bytes"] = rest
    captures = _captures(recording, samples)
    captures[0]["core:header_bytes"] = offset
    text = json.dumps({"global": described, "captures": captures, "annotations": []}, indent=1)
    target.write_text(text + "\n")


def _datatype(dtype: np.dtype[Any]) -> str:
    """Return SigMF's name of a dtype: of numbers, of complex ones, and of two fields of one integer type."""
    fields = [dtype[name] for name in dtype.names or ()]
    pair = len(fields) == 2 and fields[0] == fields[1] and dtype.itemsize == 2 * fields[0].itemsize
    number = fields[0] if pair else dtype
    bits = 8 * number.itemsize // (2 if number.kind == "c" else 1)
    if bits not in BITS.get(number.kind, ()) or (pair and number.kind == "c"):
        raise ValueError(
            f"SigMF has no datatype for {dtype}: complex or plain numbers, or two fields of one dtype"
        )
    kind = "f" if number.kind == "c" else number.kind
    order = "" if bits == 8 else "_be" if number.str[0] == ">" else "_le"
    return f"{'c' if pair or number.kind == 'c' else 'r'}{kind}{bits}{order}"


def _layout_of(recording: Recording, said: RingAttrs) -> tuple[int, int]:
    """Return samples of a frame, and channels, which must take turns."""
    shape = recording.shape
    channel = said.axis_of("channel")
    if recording.variable_rows or len(shape) > 2 or (len(shape) == 2 and 1 not in shape and channel == 0):
        raise ValueError(
            f"SigMF has samples, or samples of channels that take turns (samples, channels): not frames of "
            f"shape {shape}{' with variable_rows' * recording.variable_rows}"
        )
    channels = shape[1] if len(shape) == 2 and channel != 0 else 1
    return int(np.prod(shape, dtype=int)) // channels, channels


def _sample_rate(said: RingAttrs, samples: int) -> float | None:
    number = said.axis_of("time")
    if number is not None and said.axes[number].unit in SECONDS:
        return 1 / (said.axes[number].scale * SECONDS[said.axes[number].unit])
    return None if said.frame_rate is None else said.frame_rate * samples


def _number(said: Any) -> float | None:
    """Return what an attr says if it is a number: it may say anything."""
    is_number = isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said)
    return said if is_number else None


def _captures(recording: Recording, samples: int) -> list[dict[str, Any]]:
    """Return one for each stretch without losses, from the moment of its first sample."""
    firsts = {0, *(part.first for part in recording.parts), *np.flatnonzero(recording.lost_before).tolist()}
    captures = []
    frequency = _number(recording.attrs.get("center_frequency"))
    for first in sorted(firsts):
        capture: dict[str, Any] = {"core:sample_start": first * samples}
        if first < len(recording):
            capture["core:global_index"] = int(recording.seqs[first]) * samples
            moment = datetime.fromtimestamp(int(recording.realtimes_ns[first]) // 10**9, UTC)
            fraction = int(recording.realtimes_ns[first]) % 10**9
            capture["core:datetime"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
        if frequency is not None:
            capture["core:frequency"] = frequency
        captures.append(capture)
    return captures
