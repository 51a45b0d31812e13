"""The array of a recording is indexed as numpy indexes one, in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import shmring
from shmring import recording
from shmring.recording.formats import _columns
from support import recordings

pytestmark = pytest.mark.slow

FORMATS = [".npy", ".zarr", ".h5"]
COUNT, CHUNK = 11, 3  # frames, and of these in a chunk
PADDED = np.dtype([("a", "u1"), ("b", ">f8"), ("c", [("x", "u1"), ("y", "i4", (2,))])], align=True)
KINDS = {
    "numbers": ("i4", (4, 3)),
    "big-endian": (">u2", (2, 3, 4)),
    "scalars": ("f4", ()),
    "structured": (PADDED, (3,)),
    "structured scalars": (PADDED, ()),
    "dates": ("M8[us]", (4,)),
    "text": ("U2", (4, 2)),
}
EVEN = np.arange(COUNT) % 2 == 0
INDICES = {
    "int": 3,
    "the last one": -1,
    "numpy int": np.int8(5),
    "0-d array": np.array(4),
    "slice": np.s_[2:9],
    "within a chunk": np.s_[4:6],
    "step": np.s_[1::2],
    "step, within a chunk": np.s_[6:9:2],
    "step over chunks": np.s_[::7],
    "backwards": np.s_[::-1],
    "backwards in steps": np.s_[9:1:-3],
    "backwards within a chunk": np.s_[8:5:-1],
    "empty": np.s_[5:2],
    "beyond the end": np.s_[8:100],
    "all": np.s_[:],
    "nothing said": (),
    "ellipsis": ...,
    "tuple with an int": (2,),
    "int, ellipsis": np.s_[2, ...],
    "ellipsis, all": np.s_[..., :],
    "new axis": None,
    "new axes": np.s_[None, 2:7, None],
    "new axis, int": np.s_[None, 4],
    "list": [0, 3, 3, -1],
    "empty list": [],
    "list of one": [7],
    "list of lists": [[0, 10], [5, 5]],
    "array backwards": np.array([9, 4, 0, 6], "i2"),
    "unsigned": np.array([9, 4], "u8"),
    "mask": EVEN,
    "mask as a list": EVEN.tolist(),
    "mask of none": np.zeros(COUNT, bool),
    "mask in a tuple": np.s_[EVEN, ...],
    "true": True,
    "false": np.False_,
    "true, slice": np.s_[True, 2:5],
    "int, true": np.s_[3, True],
    "range": range(2, 8, 3),
    "wrong mask": [True],
    "behind the end": COUNT,
    "before the start": -COUNT - 1,
    "list behind the end": [0, COUNT],
    "float": 1.5,
    "floats": [0.5],
    "name": "x",
    "names": ["a", "c"],
    "field": "b",
    "nested": "c",
    "too many": (0,) * 9,
    "two ellipses": (..., ...),
    # and of the axes of a frame
    "last axis": np.s_[..., 0],
    "axis of all": np.s_[:, 1],
    "item": np.s_[4, 1, 1, 1],
    "item with arrays": np.s_[[4], 1, 1, 1],
    "pixel": np.s_[:, 1, -1],
    "int, int": np.s_[4, 1],
    "slice, slice": np.s_[2:8, ::-1],
    "backwards, int": np.s_[::-2, 1],
    "slice, list": np.s_[1:9, [0, 1, 1]],
    "slice, new axis, list": np.s_[1:9, None, [0, 1, 1]],
    "slice, list, ellipsis, list": np.s_[1:9, [0, 1], ..., [0, 1]],
    "int, list": np.s_[3, [0, 1]],
    "int, all, list": np.s_[3, :, [0, 1]],
    "list, int": np.s_[[9, 2], 1],
    "list, slice": np.s_[[9, 2], :1],
    "list, list": np.s_[[9, 2], [0, 1]],
    "list, all, list": np.s_[[9, 2], :, [0, 1]],
    "new axis, list, all, int": np.s_[None, [9, 2], :, 0],
    "mask, int": np.s_[EVEN, 0],
    "mask, list": np.s_[EVEN, [0]],
    "slice, mask": np.s_[2:7, [True, False, True]],
    "int, mask": np.s_[5, [True, False, True, False]],
    "0-d array, list": np.s_[np.array(3), [0, 1]],
    "columns and rows": np.ix_([1, 8], [0, 1]),
    "ellipsis, list": np.s_[..., [1, 0]],
    "ellipsis without axes": np.s_[1:9, 0, ..., 1],
}


def frames_of(dtype, shape) -> np.ndarray:
    """Random bytes, padding included; characters where only those are possible."""
    dtype = np.dtype(dtype)
    random = np.random.default_rng(0)
    size = (COUNT, *shape)
    if dtype.kind == "U":
        return random.integers(33, 999, (*size, 2), "u4").view(dtype)[..., 0]
    return random.integers(0, 200, (*size, dtype.itemsize), "u1").view(dtype)[..., 0]


def record_frames(path, frames, mode="x") -> None:
    """Record frames in chunks of a few."""
    with (
        shmring.Ring.create(shape=frames.shape[1:], dtype=frames.dtype, slots=16, meta=frames.dtype) as ring,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(_columns, "CHUNK", CHUNK * (ring.frame_nbytes + ring.dtype.itemsize))
        with ring.producer() as out:
            for frame in frames:
                with out.claim() as slot:
                    as_items(slot.array)[...] = as_items(frame)
        recording.record(ring, path, mode=mode)


@pytest.fixture(scope="module")
def take(tmp_path_factory):
    """Record each kind in each format once."""
    folder = tmp_path_factory.mktemp("takes")

    def recorded(suffix: str, kind: str) -> tuple[Path, np.ndarray]:
        frames, path = frames_of(*KINDS[kind]), folder / f"{kind}{recordings.need(suffix)}"
        if not path.exists():
            record_frames(path, frames)
        return path, frames

    return recorded


def outcome(array, key) -> tuple[object, ...]:
    """What comes out of an index: content, shape, dtype and kind of object; or which error."""
    try:
        found = array[key]
    except Exception as error:
        return (type(error), str(error))
    return (isinstance(found, np.ndarray), found.shape, found.dtype, str(found.tolist()))


def as_items(array):
    """View items as bytes: assigned as they are, numpy leaves out what lies between their fields."""
    return array.view(f"V{array.dtype.itemsize}") if isinstance(array, np.ndarray) else array


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_index_is_as_for_numpy(take, suffix, kind) -> None:
    path, frames = take(suffix, kind)
    with recording.open_recording(path) as found:
        got = {name: outcome(found.array, key) for name, key in INDICES.items()}
    wanted = {name: outcome(frames, key) for name, key in INDICES.items()}
    assert {name: (got[name], wanted[name]) for name in INDICES if got[name] != wanted[name]} == {}


@pytest.mark.parametrize("suffix", FORMATS)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_index_is_as_for_numpy(take, suffix, data) -> None:
    """Indices that nobody thought of."""
    path, frames = take(suffix, "big-endian")
    basic = hnp.basic_indices(frames.shape, allow_newaxis=True)
    arrays = hnp.integer_array_indices(frames.shape[: data.draw(st.integers(1, 4))])
    masks = hnp.arrays(bool, st.integers(1, 4).map(lambda axes: frames.shape[:axes]))
    key = data.draw(basic | arrays | masks | st.tuples(st.integers(-12, 12), arrays))
    with recording.open_recording(path) as found:
        assert outcome(found.array, key) == outcome(frames, key)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_it_looks_like_an_array(take, suffix, kind) -> None:
    path, frames = take(suffix, kind)
    with recording.open_recording(path) as found:
        array = found.array
        for name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes"):
            assert getattr(array, name) == getattr(frames, name)
        assert len(array) == COUNT
        assert str([frame.tolist() for frame in array]) == str(frames.tolist())
        assert str(np.asarray(array).tolist()) == str(frames.tolist())
        assert np.array(array, copy=True).flags.writeable
        assert str(path) in repr(array) or suffix == ".npy"
        if frames.dtype.kind == "i":
            assert np.asarray(array, "f8").dtype == "f8"


def test_structured_frames_come_back_with_what_is_between_their_fields(take) -> None:
    path, frames = take(".zarr", "structured")
    with recording.open_recording(path) as found:
        for some in (np.s_[:], np.s_[2:4], np.s_[::-1], np.s_[::5], [3, 0, 7], np.s_[:, 1], 5, np.s_[4, 2]):
            assert as_items(found.array[some]).tobytes() == as_items(frames)[some].tobytes()


@pytest.mark.parametrize("suffix", FORMATS[1:])
def test_a_frame_that_was_read_is_a_copy(take, suffix) -> None:
    """Changing it does not change what is read next."""
    path, frames = take(suffix, "numbers")
    with recording.open_recording(path) as found:
        for some in (4, np.s_[3:5], np.s_[4, 0], [4], np.s_[5:3:-1]):
            found.array[some][...] = 0
        assert found.array[4].tolist() == frames[4].tolist()


@pytest.mark.parametrize("suffix", FORMATS[1:])
@pytest.mark.parametrize(
    ("read", "chunks"),
    [
        (list, [0, 1, 2, 3]),
        (lambda found: list(found.array), [0, 1, 2, 3]),
        (lambda found: found[4], [1]),
        (lambda found: found.array[3:5], [1]),
        (lambda found: found.array[::6, 0], [0, 2]),
        (lambda found: found.array[[10, 0, 9], 1:], [0, 3]),
        (lambda found: found.array[..., 0], [0, 1, 2, 3]),
        (lambda found: [found.array[i : i + 1] for i in range(6)], [0, 1]),
    ],
    ids=["frames", "arrays", "one", "two", "every sixth", "some", "a column", "slices of one"],
)
def test_only_what_is_needed_is_read(take, monkeypatch, suffix, read, chunks) -> None:
    """Each chunk with a wanted frame once, and no other."""
    path, _ = take(suffix, "numbers")
    with recording.open_recording(path) as found:
        from shmring.recording.formats._frames import LazyFrames

        asked: list[int] = []
        read_part = LazyFrames._read

        def noted(frames, first, end):
            asked.append(first // CHUNK)
            assert end - first <= CHUNK
            return read_part(frames, first, end)

        monkeypatch.setattr(LazyFrames, "_read", noted)
        read(found)
    assert asked == chunks


@pytest.mark.parametrize("suffix", FORMATS)
def test_dask_takes_it(take, suffix) -> None:
    dask_array = pytest.importorskip("dask.array")
    path, frames = take(suffix, "numbers")
    with recording.open_recording(path) as found:
        lazy = dask_array.from_array(found.array, chunks=(4, 4, 3))
        assert (
            lazy[1:9, ::-1].sum(axis=0).compute(scheduler="sync").tolist()
            == frames[1:9, ::-1].sum(axis=0).tolist()
        )


@pytest.mark.parametrize("suffix", FORMATS)
def test_frames_are_alike_in_every_format(take, suffix) -> None:
    """One by one, in slices, and what is wrong with an index."""
    path, frames = take(suffix, "numbers")
    with recording.open_recording(path) as found:
        assert [frame.seq for frame in found] == list(range(COUNT))
        assert [frame.seq for frame in found[7:2:-2]] == [7, 5, 3]
        assert found[np.int64(-1)].seq == COUNT - 1
        for frame in (found[4], *found[4:5]):
            assert type(frame.array) is np.ndarray
            assert frame.array.tolist() == frames[4].tolist()
            with pytest.raises(ValueError, match="read-only"):
                frame.array[...] = 0
        for number in (COUNT, -COUNT - 1):
            with pytest.raises(IndexError, match=f"there is no frame {number}: the recording has {COUNT}"):
                found[number]
        for wrong in (1.0, "seq", None, [1]):
            with pytest.raises(TypeError):
                found[wrong]
        assert f"{COUNT} frames of shape (4, 3), dtype int32, 0 lost, producer closed>" in repr(found)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_closed_recording_says_so(take, suffix) -> None:
    path, frames = take(suffix, "numbers")
    found = recording.open_recording(path)
    kept = found[3]
    found.close()
    found.close()
    assert kept.array.tolist() == frames[3].tolist()
    assert (len(found), found.seqs[-1], repr(found)[-9:]) == (COUNT, COUNT - 1, ", closed>")
    for read in (lambda: found[0], lambda: found[2:4], lambda: list(found)):
        with pytest.raises(ValueError, match="was closed; open it again"):
            read()
    if suffix != ".npy":  # whose array is mapped, and stays valid
        for key in (0, ..., [1], "x"):
            with pytest.raises(ValueError, match="was closed; open it again"):
                found.array[key]
