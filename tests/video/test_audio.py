"""A callback of PortAudio that puts each block into a ring: it never waits, and every sample is right."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from support.waiting import PATIENCE

RATE, SAMPLES, CHANNELS = 48000, 480, 2
META = np.dtype([("overflow", "?")])

# The program of the page, with 16 bits: what ALSA reads from the file comes unchanged.
MICROPHONE = f"""
import sys, threading
import shmring, sounddevice

ended = threading.Event()
with shmring.Ring.attach(sys.argv[1]) as ring, ring.producer(on_full="drop") as out:
    def callback(indata, frames, times, status):
        out.put(indata, meta=(status.input_overflow,))
        if out.next_seq == int(sys.argv[2]):
            raise sounddevice.CallbackStop
    out.wait_for_consumers(1, timeout={PATIENCE})
    with sounddevice.InputStream(
        samplerate={RATE}, blocksize={SAMPLES}, channels={CHANNELS}, dtype="int16", device="microphone",
        callback=callback, finished_callback=ended.set,
    ):
        ended.wait()
"""


@pytest.mark.parametrize("slots", [2, 128], ids=["few", "enough"])
def test_what_alsa_plays_is_what_consumers_get(make, tmp_path, slots):
    """PortAudio itself, at the speed of memory: with few slots the ring may be full."""
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))  # or no PortAudio
    blocks = 100
    sound = np.random.default_rng(1).integers(-(2**15), 2**15, (blocks, SAMPLES, CHANNELS), "i2")
    (tmp_path / "sound.raw").write_bytes(sound.tobytes())
    (tmp_path / "asound.conf").write_text(
        "</usr/share/alsa/alsa.conf>\n"
        f'pcm.microphone {{ type file; slave.pcm null; file /dev/null; infile "{tmp_path}/sound.raw" }}\n'
    )
    (tmp_path / "microphone.py").write_text(MICROPHONE)
    ring = make(shape=(SAMPLES, CHANNELS), dtype="i2", slots=slots, meta=META)
    with ring.consumer() as frames:
        microphone = subprocess.Popen(
            [sys.executable, str(tmp_path / "microphone.py"), ring.name, str(blocks)],
            env={**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")},
            stderr=subprocess.PIPE,
        )
        came = 0
        for frame in frames.iter(timeout=PATIENCE):
            assert np.array_equal(frame.array, sound[frame.seq])
            assert not frame.meta["overflow"]
            came += 1
        _, errors = microphone.communicate(timeout=PATIENCE)
        assert (microphone.returncode, errors) == (0, b"")
        assert came + frames.lost == blocks
        assert came >= min(ring.slots, blocks)
        if ring.slots >= blocks:
            assert frames.lost == 0


def test_the_callback_does_not_wait_for_a_consumer_that_stands_still(make):
    """Called as PortAudio does it: in another thread, with the same memory for each block."""
    ring = make(shape=(SAMPLES, CHANNELS), dtype="f4", slots=4, meta=META)
    with (
        ring.producer(on_full="drop") as out,
        ring.consumer() as still,
        ring.consumer(lossless=False) as quick,
    ):

        def callback(indata, frames, times, status):
            out.put(indata, meta=(status.input_overflow,))

        def call(blocks: int) -> None:
            indata = np.empty((SAMPLES, CHANNELS), "f4")
            for number in range(blocks):
                indata[:] = number
                callback(indata, SAMPLES, None, SimpleNamespace(input_overflow=number == 2))

        portaudio = threading.Thread(target=call, args=(1000,))
        portaudio.start()
        portaudio.join(PATIENCE)
        assert not portaudio.is_alive()
        assert (out.published, out.dropped) == (ring.slots, 1000 - ring.slots)
        out.close()
        said = [(frame.seq, float(frame.array[-1, -1]), bool(frame.meta["overflow"])) for frame in still]
        assert said == [(number, number, number == 2) for number in range(ring.slots)]
        assert (still.lost, quick.try_get() is not None) == (1000 - ring.slots, True)


def test_blocks_of_any_length(make):
    ring = make(shape=(1024, CHANNELS), dtype="f4", slots=4, variable_rows=True)
    with ring.producer(on_full="drop") as out, ring.consumer() as frames:
        for samples in (512, 1, 1024):
            out.put(np.full((samples, CHANNELS), samples, "f4"))
        assert [frames.get(PATIENCE).shape for _ in range(3)] == [(512, 2), (1, 2), (1024, 2)]
