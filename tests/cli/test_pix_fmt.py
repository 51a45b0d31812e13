"""`shmring write --pix-fmt`: what comes out is what ffmpeg gave, by ffmpeg's own checksum."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import shmring
from shmring.video import PixelLayout, layout_of
from support.blocks import block_file
from support.waiting import PATIENCE

pytest.importorskip("click")

NAMED = ["yuv420p", "nv12", "gray10le", "p010le", "rgb48le"]

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def ffmpeg(*arguments: str, **options) -> bytes:
    return subprocess.run(
        ["ffmpeg", "-v", "error", *arguments], check=True, stdout=subprocess.PIPE, timeout=PATIENCE, **options
    ).stdout


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize(
    "pix_fmt",
    [pytest.param(name, marks=[] if name in ("nv12", "rgb48le") else pytest.mark.stress) for name in NAMED],
)
def test_the_checksum_of_ffmpeg(command, name, tmp_path, pix_fmt):
    """In one go: ffmpeg sends a film, and adds up what it sent; both ends by the names alone."""
    raw = tmp_path / "sent.raw"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=34x18:rate=1",
        "-vf",
        "crop=33:17:0:0:exact=1",
        "-frames:v",
        "3",
        "-pix_fmt",
        pix_fmt,
        "-f",
        "rawvideo",
        str(raw),
    )
    as_read = ["-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", "33x17"]
    sent = ffmpeg(*as_read, "-i", str(raw), "-f", "framemd5", "-")
    came = tmp_path / "came.raw"
    with came.open("wb") as out, raw.open("rb") as source:
        reader = command("read", name, "--timeout", "20", stdout=out)
        writer = command(
            "write", name, "--pix-fmt", pix_fmt, "--size", "33x17", "--wait-for", "1", stdin=source
        )
        assert writer.wait(PATIENCE) == 0, writer.stderr.read()
        assert reader.wait(PATIENCE) == 0, reader.stderr.read()
    assert ffmpeg(*as_read, "-i", str(came), "-f", "framemd5", "-") == sent
    assert len(sent.splitlines()) - len([x for x in sent.splitlines() if x.startswith(b"#")]) == 3


WRONG = {
    "no size": (["--pix-fmt", "yuv420p"], "give both --pix-fmt and --size"),
    "no format": (["--size", "4x4"], "give both --pix-fmt and --size"),
    "a shape, too": (["--pix-fmt", "gray", "--size", "4x4", "--shape", "4,4"], "leave out --shape"),
    "npy": (["--pix-fmt", "gray", "--size", "4x4", "--format", "npy"], "leave out --pix-fmt and --size"),
    "unknown": (["--pix-fmt", "yuv420q", "--size", "4x4"], "did you mean 'yuv420p'?"),
    "palette": (["--pix-fmt", "pal8", "--size", "4x4"], "palette"),
    "no such size": (["--pix-fmt", "gray", "--size", "4,4"], "1280x720"),
    "empty": (["--pix-fmt", "gray", "--size", "0x4"], "1280x720"),
    "nothing": ([], "--pix-fmt and --size"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(command, name, case):
    options, said = WRONG[case]
    writer = command("write", name, *options, stdin=subprocess.PIPE)
    _, err = writer.communicate(b"", PATIENCE)
    assert (writer.returncode, said in err.decode()) == (2, True), err.decode()
    assert not block_file(name).exists()


def test_an_input_that_ends_within_a_picture(command, name):
    writer = command("write", name, "--pix-fmt", "nv12", "--size", "3x3", stdin=subprocess.PIPE)
    _, err = writer.communicate(bytes(20), PATIENCE)
    assert writer.returncode == 1
    assert "3 of its 17 bytes came; check --pix-fmt and --size" in err.decode()


def test_the_ring_says_what_its_pixels_are(command, name):
    writer = command("write", name, "--pix-fmt", "gray10", "--size", "4x2", stdin=subprocess.PIPE)
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring:
        assert layout_of(ring) == PixelLayout("gray10" + sys.byteorder[0] + "e", 4, 2)
        assert (ring.attrs["color"], ring.attrs["range"]) == ("gray", [0, 1023])
    writer.communicate(b"", PATIENCE)


@pytest.mark.parametrize("there", ["bgr24", None])
def test_a_ring_with_other_pixels_is_not_taken_over(command, make, there):
    """Consumers would see blue for red; one that says nothing of its pixels is taken over as it is."""
    layout = PixelLayout("bgr24", 4, 4)
    ring = make(shape=(4, 4, 3), dtype="u1", slots=16, attrs=None if there is None else layout.attrs)
    with ring.consumer() as frames:
        more = ["--pix-fmt", "rgb24", "--size", "4x4"]
        writer = command("write", ring.name, *more, stdin=subprocess.PIPE)
        _, err = writer.communicate(bytes(48), PATIENCE)
        if there is None:
            assert (writer.returncode, frames.get(PATIENCE).seq) == (0, 0)
        else:
            assert writer.returncode == 1
            assert "other pixels: pix_fmt 'bgr24', not 'rgb24'" in err.decode()
            assert block_file(ring.name).exists()


def test_read_follows_no_ring_with_other_pixels(command, name, make):
    first = make(name=name, shape=(4, 4, 3), dtype="u1", slots=16, attrs=PixelLayout("bgr24", 4, 4).attrs)
    with first.producer() as out:
        reader = command("read", name, "--follow", "--timeout", "20", stdout=subprocess.PIPE)
        out.wait_for_consumers(1, PATIENCE)
    first.unlink()
    second = make(name=name, shape=(4, 4, 3), dtype="u1", slots=16, attrs=PixelLayout("rgb24", 4, 4).attrs)
    with second.producer():
        _, err = reader.communicate(timeout=PATIENCE)
    assert (reader.returncode, "pix_fmt 'rgb24', not 'bgr24'" in err.decode()) == (1, True), err.decode()
