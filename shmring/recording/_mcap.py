"""Images as messages of an MCAP file: foxglove.RawImage, and beside it what else is known of each frame."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from shmring import attrs
from shmring.recording._recording import RecordedFrame, Recording
from shmring.recording.formats._frames import plain

# The encodings of foxglove.RawImage, by color and dtype.
ENCODINGS = {
    ("gray", "u1"): "mono8",
    ("gray", "u2"): "mono16",
    ("gray", "f4"): "32FC1",
    **{(color, "u1"): f"{color}8" for color in ("rgb", "bgr", "rgba", "bgra")},
    **{(color, "u1"): f"{color}8" for color in attrs.BAYER},
}
# What a reader is told of the second topic.
SCHEMA = {
    "type": "object",
    "properties": {"seq": {"type": "integer"}, "lost": {"type": "integer"}, "meta": {}},
}
CHUNK = 4 << 20  # bytes of messages that are compressed together


def load() -> None:
    """Import what writes such files; an error that says how to install it."""
    try:
        for library in ("mcap.writer", "mcap_protobuf.schema", "foxglove_schemas_protobuf"):
            importlib.import_module(library)
    except ImportError as error:
        raise type(error)(
            f'MCAP files need mcap and its schemas: pip install "shmring[mcap]" ({error})', name="mcap"
        ) from None


def write(recording: Recording, source: Path, target: Path) -> None:
    """Write the frames of a recording, one after another."""
    load()
    from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
    from mcap.writer import Writer
    from mcap_protobuf.schema import register_schema

    order, encoding = _layout_of(recording)
    times = _times_of(recording)
    topic = "/" + recording.ring
    with open(target, "xb") as file:
        writer = Writer(file, chunk_size=CHUNK)
        writer.start(library="shmring")
        images = writer.register_channel(topic, "protobuf", register_schema(writer, RawImage))
        schema = writer.register_schema("shmring.Frame", "jsonschema", json.dumps(SCHEMA).encode())
        frames = writer.register_channel(topic + "/frame", "json", schema)
        for frame, time in zip(recording, times, strict=True):
            for channel, message in (
                (images, _image(RawImage, frame, order, encoding, time, recording.ring)),
                (frames, json.dumps(_said_of(frame)).encode()),
            ):
                # MCAP's sequence numbers have 32 bits.
                writer.add_message(channel, time, message, time, sequence=frame.seq & 0xFFFFFFFF)
        writer.add_metadata("shmring", {"attrs": json.dumps(recording.attrs), "lost": str(recording.lost)})
        writer.finish()


def _layout_of(recording: Recording) -> tuple[tuple[int, ...], str]:
    """Return the axes of a frame as rows, columns, channels, and how Foxglove calls such pixels."""
    said = attrs.read(recording)
    channels = tuple(number for number, axis in enumerate(said.axes) if axis.type == "channel")
    encoding = ENCODINGS.get((said.color or "", recording.dtype.str[1:]))
    fits = 2 + len(channels) == len(said.axes) and not recording.variable_rows
    if encoding is None or said.sides is None or not fits:
        known = ", ".join(sorted({encoding for encoding in ENCODINGS.values() if "bayer" not in encoding}))
        raise ValueError(
            f"foxglove.RawImage has {known} and Bayer patterns of 8 bits: not frames of shape "
            f"{recording.shape}, dtype {recording.dtype}, color {said.color!r}"
        )
    return (*said.sides, *channels), encoding


def _times_of(recording: Recording) -> list[int]:
    """Return nanoseconds since 1970."""
    times: list[int] = recording.realtimes_ns.tolist()
    if times and min(times) < 0:
        raise ValueError(
            f"MCAP has no times before 1970: frame {int(np.argmin(times))} has the timestamp "
            f"{int(recording.timestamps_ns[np.argmin(times)])}, which is {min(times)} ns since then"
        )
    return times


def _image(
    kind: Any, frame: RecordedFrame, order: tuple[int, ...], encoding: str, time: int, source: str
) -> bytes:
    pixels = np.ascontiguousarray(frame.array.transpose(order))
    pixels = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    height, width = pixels.shape[:2]
    image = kind(
        frame_id=source, width=width, height=height, encoding=encoding, step=pixels[0].nbytes,
        data=pixels.tobytes(),
    )  # fmt: skip
    image.timestamp.FromNanoseconds(time)
    message: bytes = image.SerializeToString()
    return message


def _said_of(frame: RecordedFrame) -> dict[str, Any]:
    said: dict[str, Any] = {"seq": frame.seq, "lost": frame.lost}
    if frame.meta is not None:
        names = frame.meta.dtype.names
        said["meta"] = {name: plain(frame.meta[name]) for name in names} if names else plain(frame.meta)
    return said
