"""`shmring demo`: a producer and three consumers, each a process, and a verdict on what they saw."""

from __future__ import annotations

import re

import click

from shmring import NoSpace, Ring
from shmring._cli.support import options, types
from shmring._cli.support.advice import advice
from shmring._cli.support.signals import ended_by_signals
from shmring._demo.children import META, Limits
from shmring._demo.parent import Demo
from shmring._demo.sources import Drawn, Source, open_camera, open_film

SECONDS = 5.0
SIZE = (720, 1280, 3)


def _size(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write it as 1280x720")
    return (int(match[2]), int(match[1]), 3)


@click.command()
@click.option("--video", metavar="FILE", help='Stream a film (pip install "shmring[video]").')
@click.option(
    "--camera",
    metavar="N",
    type=types.whole("camera", 0, "the number of a camera, as in /dev/video0"),
    help="Stream /dev/videoN (the same extra).",
)
@click.option(
    "--size",
    metavar="WxH",
    type=types.Parsed("size", _size),
    help="Size of the frames that the demo draws itself (default 1280x720).",
)
@options.frames
@click.option(
    "--seconds",
    metavar="S",
    type=types.POSITIVE,
    help="Stop after S seconds (default 5 without --frames).",
)
@click.option(
    "--rate",
    metavar="R",
    type=types.POSITIVE,
    help="Frames per second (default: as fast as they are taken).",
)
@click.option("--slots", metavar="N", type=types.SLOTS, default=16, help="Slots of the ring (default 16).")
def demo(
    video: str | None,
    camera: int | None,
    size: tuple[int, int, int] | None,
    frames: int | None,
    seconds: float | None,
    rate: float | None,
    slots: int,
) -> int:
    """Stream frames from one process to three, live, and verify every one.

    A producer process streams to three consumer processes through one ring. The demo shows rates, lag and
    losses, and verifies every frame by its checksum.

    Exit codes: 0 verified, 1 not verified, 2 wrong usage, 130 Ctrl-C.
    """
    options.at_most_one(video=video, camera=camera, size=size)
    if seconds is None and frames is None:
        seconds = SECONDS
    with ended_by_signals():
        with advice():
            source = _open_source(video, camera, size)
            ring = _create(source, slots)
        with ring:
            return Demo(ring, source, Limits(frames, seconds, rate)).run()


def _create(source: Source, slots: int) -> Ring:
    attrs = {"source": source.title, "axes": ["row", "column", "colour"], "color": "rgb"}
    try:
        return Ring.create(shape=source.shape, dtype="u1", slots=slots, consumers=4, meta=META, attrs=attrs)
    except NoSpace as error:
        raise click.UsageError(str(error)) from None


def _open_source(video: str | None, camera: int | None, size: tuple[int, int, int] | None) -> Source:
    if video is not None:
        return open_film(video)
    if camera is not None:
        return open_camera(camera)
    return Drawn(size or SIZE)
