"""OpenCV's VideoCapture into slots: what the page does notices all that a camera may do."""

from __future__ import annotations

import numpy as np
import pytest

import shmring
from shmring.video import PixelLayout
from support.waiting import PATIENCE

cv2 = pytest.importorskip("cv2")


def numbered_pictures(folder, sizes: list[tuple[int, ...]]) -> tuple[str, list[np.ndarray]]:
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, size, "u1") for size in sizes]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return str(folder / "%d.png"), pictures


def grab(out: shmring.Producer, camera) -> None:
    """As docs/how-to/opencv.md has it."""
    while True:
        with out.claim() as slot:
            ok, picture = camera.read(slot.array)
            if not ok:
                slot.abort()
                break
            if picture is not slot.array:
                raise ValueError(f"the pictures are now {picture.shape} {picture.dtype}")


def test_pictures_are_written_into_the_slots(make, tmp_path):
    name, pictures = numbered_pictures(tmp_path, [(18, 32, 3)] * 5)
    ring = make(shape=(18, 32, 3), dtype="u1", slots=8, attrs={"color": "bgr"})
    with ring.consumer() as frames:
        with ring.producer() as out:
            grab(out, cv2.VideoCapture(name, cv2.CAP_IMAGES))
        came = [frame.array.copy() for frame in frames]
    assert all(map(np.array_equal, came, pictures))
    assert len(came) == 5


@pytest.mark.parametrize("other", [(9, 16, 3), (18, 32), (32, 18, 3)], ids=["size", "gray", "turned"])
def test_a_picture_of_another_size_is_no_frame(make, tmp_path, other):
    """Consumers get those before it, and then the error."""
    name, pictures = numbered_pictures(tmp_path, [(18, 32, 3)] * 2 + [other])
    ring = make(shape=(18, 32, 3), dtype="u1", slots=8)
    with ring.consumer() as frames:
        camera = cv2.VideoCapture(name, cv2.CAP_IMAGES)
        camera.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        with pytest.raises(ValueError, match="are now"), ring.producer() as out:
            grab(out, camera)
        assert all(np.array_equal(frames.get(PATIENCE).array, picture) for picture in pictures[:2])
        with pytest.raises(shmring.ProducerDied, match="are now"):
            frames.get(PATIENCE)


def test_a_frame_is_not_written_to(make):
    ring = make(shape=(4, 4, 3), dtype="u1", slots=4)
    with ring.producer() as out, ring.consumer() as frames:
        out.put(np.zeros((4, 4, 3), "u1"))
        frame = frames.get(PATIENCE)
        with pytest.raises(cv2.error, match="readonly"):
            cv2.circle(frame.array, (2, 2), 1, (255, 255, 255))
        cv2.circle(frame.private(), (2, 2), 1, (255, 255, 255))
        assert not frame.array.any()


CODES = {"yuv420p": "COLOR_YUV2BGR_I420", "nv12": "COLOR_YUV2BGR_NV12", "nv21": "COLOR_YUV2BGR_NV21"}


@pytest.mark.parametrize("pix_fmt", CODES)
def test_planes_are_where_opencv_looks_for_them(make, pix_fmt):
    """A picture that is gray but for its last plane, or the last sample of that: red, and blue in nv21."""
    layout = PixelLayout(pix_fmt, 32, 18)
    ring = make(shape=layout.shape, dtype=layout.dtype, slots=4, attrs=layout.attrs)
    with ring.producer() as out, ring.consumer() as frames:
        with out.claim() as slot:
            slot.array[:] = 128
            last = layout.planes(slot)[-1]
            (last if last.ndim == 2 else last[:, :, 1])[:] = 240
        picture = cv2.cvtColor(frames.get(PATIENCE).array, getattr(cv2, CODES[pix_fmt]))
    assert (picture == picture[0, 0]).all()
    assert picture[0, 0].argmax() == (0 if pix_fmt == "nv21" else 2)
