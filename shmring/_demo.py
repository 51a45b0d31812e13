"""`shmring demo`: a producer and three consumers, each a process, and a verdict on what they saw."""

from __future__ import annotations

import argparse
import math
import re
import sys
from typing import Any

from shmring import NoSpace, Ring
from shmring._demo_children import META, Limits
from shmring._demo_parent import Demo, Signals
from shmring._demo_sources import Drawn, Source, UserError, open_camera, open_film

SECONDS = 5.0


def add_command(commands: Any) -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser(
        "demo",
        help="stream frames from one process to three, live, and verify every one",
        description="Streams frames from a producer process to three consumer processes through one ring, "
        "shows rates, lag and losses, and verifies every frame by its checksum.",
        epilog="Exit code: 0 verified, 1 not verified, 2 wrong usage, 130 Ctrl-C.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--video", metavar="FILE", help='stream a film (pip install "shmring[video]")')
    source.add_argument("--camera", metavar="N", type=_camera, help="stream /dev/videoN (the same extra)")
    size_help = "size of the frames that the demo draws itself (default 1280x720)"
    source.add_argument("--size", metavar="WxH", type=_size, default=(720, 1280, 3), help=size_help)
    add = parser.add_argument
    add("--frames", metavar="N", type=_count, help="stop after N frames")
    add("--seconds", metavar="S", type=_positive, help="stop after S seconds (default 5 without --frames)")
    add("--rate", metavar="R", type=_positive, help="frames per second (default: as fast as they are taken)")
    add("--slots", metavar="N", type=_slots, default=16, help="slots of the ring (default 16)")
    parser.set_defaults(run=demo)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _whole(text: str, least: int, what: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, 1, "a number of frames")


def _slots(text: str) -> int:
    return _whole(text, 2, "a number of slots, 2 or more")


def _camera(text: str) -> int:
    return _whole(text, 0, "the number of a camera, as in /dev/video0")


def _size(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it as 1280x720")
    return (int(match[2]), int(match[1]), 3)


def demo(options: argparse.Namespace) -> int:
    """Run the demo; its exit code."""
    seconds = options.seconds
    if seconds is None and options.frames is None:
        seconds = SECONDS
    try:
        with Signals() as signals:
            source = _open_source(options)
            attrs = {"source": source.title, "axes": ["row", "column", "colour"]}
            with Ring.create(
                shape=source.shape, dtype="u1", slots=options.slots, consumers=4, meta=META, attrs=attrs
            ) as ring:
                return Demo(ring, source, Limits(options.frames, seconds, options.rate), signals).run()
    except (UserError, NoSpace) as error:
        print(f"shmring demo: {error}", file=sys.stderr)
        return 2


def _open_source(options: argparse.Namespace) -> Source:
    if options.video is not None:
        return open_film(options.video)
    if options.camera is not None:
        return open_camera(options.camera)
    return Drawn(options.size)
