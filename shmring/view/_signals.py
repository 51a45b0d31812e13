"""Traces as a page takes them: the last seconds of every channel, by lowest and highest of each column."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from shmring.view._images import Picture
from shmring.view._kinds import Layout
from shmring.view._wants import Want

__all__ = ["Trace"]

MOST = 1 << 22  # samples that are remembered, of all channels together
MOST_CHANNELS = 32
FFT, FEWEST = 4096, 8  # samples
FLOOR = 1e-12  # what the logarithm takes for nothing
RATES = 64  # frames that an unknown sample rate is estimated from


class Trace:
    """The newest samples of a ring, by their place in the stream: what was lost is a gap."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], layout: Layout) -> None:
        self._axis = layout.channel_axis
        channels = shape[self._axis] if self._axis is not None else 1
        self._all_channels = channels
        self._channels = min(channels, MOST_CHANNELS)
        self._complex = dtype.kind == "c"
        self._length = int(np.prod(shape, dtype=np.int64)) // max(channels, 1)  # samples of a frame
        self._known_rate = layout.sample_rate
        rows = self._channels * (2 if self._complex else 1)
        self._most = max(MOST // max(rows, 1), self._length)
        self._dtype = _dtype_for(dtype)
        self._kept = np.full((rows, 0), np.nan, self._dtype)  # grows up to the most
        self._begin = self._end = 0  # positions of the samples that are kept
        self._times: deque[tuple[int, int]] = deque(maxlen=RATES)

    @property
    def rows(self) -> int:
        """How many traces there are: two for each complex channel."""
        return len(self._kept)

    def add(self, frame: np.ndarray[Any, Any], seq: int, timestamp_ns: int) -> None:
        """Remember a frame."""
        self._times.append((seq, timestamp_ns))
        samples, position = self._samples(frame), seq * self._length
        is_first = self._begin == self._end
        is_another = position < self._end or position - self._end > self._most  # stream, or after a long gap
        if is_first or is_another:
            self._begin = self._end = position
        self._make_room(position + self._length)
        capacity = self._kept.shape[1]
        for begin, end, values in ((self._end, position, None), (position, position + self._length, samples)):
            if end > begin:
                places = np.arange(begin, end) % capacity
                self._kept[:, places] = np.nan if values is None else values
        self._end = position + self._length
        self._begin = max(self._begin, self._end - capacity)

    def _make_room(self, end: int) -> None:
        """Keep twice as many samples if these do not fit, up to the most."""
        needed = end - self._begin
        capacity = self._kept.shape[1]
        if needed <= capacity or capacity >= self._most:
            return
        larger = min(max(2 * capacity, needed, 1024), self._most)
        kept = np.full((self.rows, larger), np.nan, self._dtype)
        if self._end > self._begin:
            places = np.arange(self._begin, self._end)
            kept[:, places % larger] = self._kept[:, places % capacity]
        self._kept = kept

    def _samples(self, frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a frame as (traces, samples); where it is shorter than the others, the rest is a gap."""
        if self._axis is not None:
            values = np.moveaxis(frame, self._axis, 0)[: self._channels]
            values = values.reshape(len(values), frame.size // max(frame.shape[self._axis], 1))
        else:
            values = frame.reshape(1, -1)
        if self._complex:
            values = np.concatenate([values.real, values.imag])
        whole = np.full((self.rows, self._length), np.nan, self._dtype)
        with np.errstate(all="ignore"):
            whole[: len(values), : values.shape[1]] = values
        return whole

    def view(self, want: Want, unit: str | None) -> Picture:
        """Return the last seconds, for a panel of that width, and their spectrum."""
        rate = self._known_rate or self._estimated_rate()
        span = self._end - self._begin
        kept = None  # seconds, if they are fewer than those that are wanted
        if rate is not None:
            wanted = max(int(want.seconds * rate), 2)
            if span < wanted and span == self._most:
                kept = span / rate
            span = min(span, wanted)
        newest = self._newest(span)
        points = min(span, want.width)
        columns = _columns(newest, points)
        spectrum, step = self._spectrum(newest)
        known = self._known_rate is not None
        scale = 1 / self._known_rate if self._known_rate is not None else 1.0
        header = {
            "kind": "signal",
            "dtype": self._dtype.str,
            "channels": self.rows,
            "all_channels": self._all_channels,
            "complex": self._complex,
            "points": points,
            "samples": span,
            "kept": kept,
            "x0": -span * scale,
            "dx": span / points * scale if points else 0.0,
            "x_unit": "s" if known else "samples",
            "unit": unit,
            "fft_points": spectrum.shape[1],
            "fft_x0": -0.5 / scale if self._complex else 0.0,
            "df": step / scale,
        }
        payload = np.concatenate([columns.reshape(-1), spectrum.reshape(-1)]).astype(self._dtype, copy=False)
        return Picture(header, payload)

    def _newest(self, count: int) -> np.ndarray[Any, Any]:
        if not count:
            return self._kept[:, :0]
        return self._kept[:, np.arange(self._end - count, self._end) % self._kept.shape[1]]

    def _estimated_rate(self) -> float | None:
        """Return samples per second, by the times of the last frames."""
        if len(self._times) < 2:
            return None
        (seq, time), (last_seq, last_time) = self._times[0], self._times[-1]
        if last_time <= time or last_seq <= seq:
            return None
        return (last_seq - seq) * self._length / (last_time - time) * 1e9

    def _spectrum(self, newest: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
        """Return decibels of each frequency, and their distance in cycles per sample.

        A channel with a sample that is no number has no spectrum: its decibels are none, too.
        """
        count = min(FFT, newest.shape[1])
        samples = newest[:, newest.shape[1] - count :]
        if count < FEWEST:
            return np.empty((0, 0), "f4"), 0.0
        window = np.hanning(count)
        with np.errstate(all="ignore"):  # of the largest numbers, the sum is infinite
            if self._complex:
                half = len(samples) // 2
                values = np.fft.fftshift(np.fft.fft((samples[:half] + 1j * samples[half:]) * window), axes=1)
                amplitude = np.abs(values) / window.sum()
            else:
                amplitude = np.abs(np.fft.rfft(samples * window)) / (window.sum() / 2)
                alone = [0] if count % 2 else [0, -1]  # frequencies that have no negative one
                amplitude[:, alone] /= 2
        return 20 * np.log10(np.maximum(amplitude, FLOOR)), 1 / count


def _dtype_for(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 for samples that it can hold, else float64."""
    part = np.empty(0, dtype).real.dtype if dtype.kind == "c" else dtype
    return np.dtype("<f4" if np.can_cast(part, "f4", "safe") else "<f8")


def _columns(samples: np.ndarray[Any, Any], points: int) -> np.ndarray[Any, Any]:
    """Return the lowest and the highest sample of each column, as (traces, 2, columns)."""
    count = samples.shape[1]
    if points == count:
        return np.stack([samples, samples], axis=1)
    edges = np.arange(points) * count // points
    low, high = np.fmin.reduceat(samples, edges, axis=1), np.fmax.reduceat(samples, edges, axis=1)
    return np.stack([low, high], axis=1)
