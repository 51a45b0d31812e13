"""Recordings: rings saved in files (.npy, Zarr, HDF5), read again, played again."""

from shmring.recording._capture import Capture, capture
from shmring.recording._errors import RecordingBusy, RecordingCorrupt, RecordingFailed
from shmring.recording._export import export
from shmring.recording._recorder import Recorder, record
from shmring.recording._recording import RecordedFrame, Recording, open_recording
from shmring.recording._replay import replay
from shmring.recording._roll import Roll, pieces
from shmring.recording._summary import Summary
from shmring.recording.formats import repair
from shmring.recording.formats._description import Part

__all__ = [
    # recording
    "record", "Recorder", "Roll", "Summary",
    # what was before a trigger
    "capture", "Capture",
    # reading
    "open_recording", "Recording", "RecordedFrame", "Part", "pieces", "repair", "export",
    # playing again
    "replay",
    # errors
    "RecordingBusy", "RecordingCorrupt", "RecordingFailed",
]  # fmt: skip
