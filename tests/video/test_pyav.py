"""PyAV: a film through a ring, lossless at both ends, is the same film; odd sizes and 10 bits included."""

from __future__ import annotations

import numpy as np
import pytest

from shmring.video import PixelLayout, layout_of
from support.threads import Running
from support.waiting import PATIENCE

av = pytest.importorskip("av")

PICTURES = 20
# With the number of bits.
FORMATS = {"yuv420p": 8, "yuv420p10le": 10, "yuv422p": 8, "gray10le": 10, "gbrp12le": 12, "yuva420p": 8}


def strides(picture) -> list[int]:
    return [plane.line_size for plane in picture.planes]


def encode(file: str, layout: PixelLayout, frames) -> None:
    """As docs/how-to/video.md has it."""
    with av.open(file, "w") as film:
        stream = film.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = layout.width, layout.height, layout.pix_fmt
        for number, frame in enumerate(frames):
            picture = av.VideoFrame(layout.width, layout.height, layout.pix_fmt)
            layout.store(frame, picture.planes, strides(picture))
            picture.pts = number
            film.mux(stream.encode(picture))
        film.mux(stream.encode())


def decoded(file: str):
    with av.open(file) as film:
        yield from film.decode(video=0)


@pytest.mark.parametrize("size", [(33, 17), (64, 32)], ids=["odd", "even"])
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_a_film_through_a_ring(make, tmp_path, pix_fmt, size):
    layout = PixelLayout(pix_fmt, *size)
    random = np.random.default_rng(1)
    sent = random.integers(0, 2 ** FORMATS[pix_fmt], (PICTURES, *layout.shape)).astype(layout.dtype)
    encode(str(tmp_path / "film.mkv"), layout, sent)
    ring = make(shape=layout.shape, dtype=layout.dtype, slots=4, attrs=layout.attrs)

    def decode() -> None:
        with ring.producer() as out:
            for picture in decoded(str(tmp_path / "film.mkv")):
                assert PixelLayout(picture.format.name, picture.width, picture.height) == layout
                with out.claim(timeout=PATIENCE) as slot:
                    layout.load(slot, picture.planes, strides(picture))

    with ring.consumer() as frames:
        decoder = Running(decode)
        encode(str(tmp_path / "copy.mkv"), layout_of(ring), frames.iter(timeout=PATIENCE))
        assert decoder.end().error is None
    came = np.empty_like(sent)
    for array, picture in zip(came, decoded(str(tmp_path / "copy.mkv")), strict=True):
        layout.load(array, picture.planes, strides(picture))
    assert np.array_equal(came, sent)
