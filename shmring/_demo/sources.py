"""Where the frames of `shmring demo` come from: drawn here, a film, or a camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av

Image: TypeAlias = npt.NDArray[np.uint8]
Draw: TypeAlias = Callable[[Image], None]  # writes one frame into the array that it is given
DEVICES = Path("/dev")


class BadSource(ValueError):
    """A film or camera that cannot be streamed; says what to do."""


class Source(Protocol):
    """What the producer streams; goes to its process by pickle."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and 3 colours."""
        ...

    @property
    def title(self) -> str:
        """Where the frames come from, in words."""
        ...

    def frames(self) -> Iterator[Draw]:
        """One function a frame."""
        ...


@dataclass(frozen=True)
class Drawn:
    """A coloured plane that scrolls, with the number of the frame in black and white boxes."""

    shape: tuple[int, int, int]
    title: str = "drawn by the producer"

    def frames(self) -> Iterator[Draw]:
        """Endless."""
        rows, columns, colours = self.shape
        y, x = np.mgrid[: rows + 256, : columns + 256].astype("u4")
        plane = np.stack([x, y, x + y][:colours], axis=-1).astype("u1")
        number = 0
        while True:
            yield partial(self._draw, plane, number)
            number += 1

    @staticmethod
    def _draw(plane: Image, number: int, out: Image) -> None:
        rows, columns, _ = out.shape
        top, left = number % 256, number * 3 % 256
        np.copyto(out, plane[top : top + rows, left : left + columns])
        bits = np.unpackbits(np.array([number], ">u8").view("u1")) * np.uint8(255)
        boxes = bits.repeat(8)[:columns]
        out[:8, : len(boxes)] = boxes[:, np.newaxis]


@dataclass(frozen=True)
class Film:
    """What PyAV decodes: a file, or a camera as the "file" of the format v4l2."""

    shape: tuple[int, int, int]
    title: str
    file: str
    format: str | None = None

    def frames(self) -> Iterator[Draw]:
        """Until the film ends."""
        import av
        import av.error

        try:
            with av.open(self.file, format=self.format) as container:
                video = container.streams.video[0]
                video.thread_type = "AUTO"
                for picture in container.decode(video):
                    yield partial(self._draw, picture)
        except av.error.FFmpegError as error:
            raise BadSource(f"the film {self.file!r} is damaged: {error.strerror}") from None

    @staticmethod
    def _draw(picture: av.VideoFrame, out: Image) -> None:
        rows, columns, _ = out.shape
        np.copyto(out, picture.to_ndarray(format="rgb24", width=columns, height=rows))


def open_film(file: str) -> Film:
    """Look at a video file, so that a mistake shows before anything starts."""
    _need_av("--video")
    if not Path(file).is_file():
        raise BadSource(f"there is no file {file!r}; give the path of a video file")
    return Film(_probe(file, None), f"decoded from {Path(file).name}", file)


def open_camera(number: int) -> Film:
    """Look at a camera, so that a mistake shows before anything starts."""
    _need_av("--camera")
    device = DEVICES / f"video{number}"
    if not device.exists():
        found = sorted(path.name.removeprefix("video") for path in DEVICES.glob("video[0-9]*"))
        here = f"cameras here: {', '.join(found)}" if found else "there is no camera here; try --video FILE"
        raise BadSource(f"there is no camera {number} ({device}); {here}")
    return Film(_probe(str(device), "v4l2"), f"from camera {number}", str(device), "v4l2")


def _need_av(option: str) -> None:
    try:
        import av  # noqa: F401
    except ImportError:
        raise ModuleNotFoundError(f'{option} needs PyAV: pip install "shmring[video]"', name="av") from None


def _probe(file: str, format: str | None) -> tuple[int, int, int]:
    import av
    import av.error

    try:
        with av.open(file, format=format) as container:
            if not container.streams.video:
                raise BadSource(f"{file!r} holds no video stream; give a video file")
            video: Any = container.streams.video[0]
            return (video.height, video.width, 3)
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or error
        raise BadSource(f"cannot read {file!r} as a video: {reason}; is it one?") from None
