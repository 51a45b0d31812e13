"""Zarr recordings: whole at every moment, for each version of Zarr, for xarray, whatever ends them."""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil
import warnings

import numpy as np
import pytest

from shmring import recording
from shmring._format import check_format
from shmring.recording.formats import _columns, _zarr
from shmring.recording.formats._description import Description

zarr = pytest.importorskip("zarr")

pytestmark = pytest.mark.slow

PADDED = np.dtype([("a", "u1"), ("b", ">f8"), ("c", [("x", "u1"), ("y", "i4", (2,))])], align=True)
DTYPES = [
    *"? u1 i1 <u2 >u2 <i4 >i8 <u8 f2 >f2 <f4 >f4 <f8 g >g F >F D G".split(),  # noqa: SIM905
    *"M8[ns] >M8[us] M8[25s] M8[D] m8[ms] >m8[ns] M8 m8 S1 S5 U3 >U3 V1 V7".split(),  # noqa: SIM905
    [("a", "u1"), ("b", "<f4")],
    [("s", "S3"), ("t", "M8[ns]"), ("v", "V3")],
    [("x", "f4", (2, 3))],
    PADDED,
]
CORE = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128", "numpy.datetime64", "numpy.timedelta64",
}  # fmt: skip


def describe(dtype="u2", shape=(3,), meta=None, attrs=None, variable_rows=False) -> Description:
    return Description("camera", check_format(shape, dtype, meta, variable_rows), attrs or {})


def rows_of(description: Description, count: int, first: int = 0):
    """Frames of random bytes, characters where only those are possible, and index rows with them as metas."""

    def random(dtype: np.dtype, shape) -> np.ndarray:
        octets = np.random.default_rng(first).integers(0, 128, (*shape, dtype.itemsize), "u1")
        if dtype.kind == "U":
            octets = octets.view(">u4" if dtype.byteorder == ">" else "u4")
            octets = (octets & 0x3FF).view("u1")
        if dtype.kind == "b":
            octets &= 1
        return octets.view(dtype)[..., 0]

    index = np.zeros(count, description.index_dtype)
    index["seq"] = np.arange(first, first + count)
    index["timestamp_ns"] = index["seq"] * 7
    if description.frame_format.meta_dtype is not None:
        metas = random(description.frame_format.meta_dtype, (count,))
        as_octets(index["meta"])[...] = as_octets(metas)
    if description.frame_format.variable_rows:
        index["rows"] = description.frame_format.shape[0]
    return random(description.frame_format.dtype, (count, *description.frame_format.shape)), index


def as_octets(array: np.ndarray) -> np.ndarray:
    """View the items as bytes, with what is between their fields."""
    return array.view(f"V{array.itemsize}")


def join(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Join them as they are: np.concatenate changes byte orders."""
    joined = np.zeros((len(first) + len(second), *first.shape[1:]), first.dtype)
    as_octets(joined)[: len(first)], as_octets(joined)[len(first) :] = as_octets(first), as_octets(second)
    return joined


def write(path, description, parts, *, append=False, ended="stopped") -> None:
    writer = _zarr.ZarrWriter(path, description, append=append)
    for frames, index in parts:
        writer.write(frames, index)
        writer.flush()
    writer.close(ended, 0)


def columns(path, mode="r"):
    group = zarr.open_group(path, mode=mode, use_consolidated=False)
    return [group[file.parent.name] for file in sorted(path.glob("*/zarr.json"))]


def resize(path, change) -> None:
    """Change the number of rows, as other programs can."""
    for array in columns(path, "r+"):
        array.resize((change(array.shape[0]), *array.shape[1:]))


def lengths(path) -> set[int]:
    return {array.shape[0] for array in columns(path)}


def check(path, frames, index) -> None:
    with recording.open_recording(path) as found:
        assert found.seqs.tolist() == index["seq"].tolist()
        assert found.timestamps_ns.tolist() == index["timestamp_ns"].tolist()
        array = found.array[:]
        assert (array.dtype, array.shape) == (frames.dtype, frames.shape)
        assert as_octets(array).tobytes() == as_octets(frames).tobytes()
        if found.metas is not None:
            assert found.metas.dtype == index["meta"].dtype
            assert as_octets(found.metas).tobytes() == as_octets(index["meta"]).tobytes()


# ---- what is in the file


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back(tmp_path, dtype) -> None:
    """To the byte, and stored as nothing that some versions of Zarr do not know or warn of."""
    description = describe(dtype, (2, 3), meta=dtype)
    frames, index = rows_of(description, 5)
    write(tmp_path / "take.zarr", description, [(frames, index)])
    check(tmp_path / "take.zarr", frames, index)
    for file in tmp_path.glob("take.zarr/*/zarr.json"):
        stored = json.loads(file.read_text())["data_type"]
        assert (stored if isinstance(stored, str) else stored["name"]) in CORE


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *itertools.product(["f4", "D"], ["-0", "0", "nan"]),
        ("f2", "-0"),
        ("f8", "nan"),
        ("F", "-0"),
        ("M8[ns]", "0"),
    ],
)
def test_a_chunk_of_nothing_but_one_value(tmp_path, dtype, value) -> None:
    description = describe(dtype)
    frames, index = rows_of(description, 4)
    frames[...] = (
        np.zeros((), dtype) if dtype == "M8[ns]" else np.array(-0.0 if value == "-0" else float(value), dtype)
    )
    write(tmp_path / "take.zarr", description, [(frames, index)])
    check(tmp_path / "take.zarr", frames, index)


def test_recordings_of_earlier_versions(tmp_path) -> None:
    """Structured arrays, as Zarr 3.4 stored them; and big-endian ones, without names of axes."""
    description = describe([("a", "i4"), ("b", "f4")], meta=">u2")
    frames, index = rows_of(description, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.create_group(tmp_path / "take.zarr", attributes={"shmring": description.to_json()})
        stored = {"frames": frames, "lost_before": index["lost"]}
        stored |= {name: index[name] for name in ("seq", "timestamp_ns", "meta")}
        for name, values in stored.items():
            values = np.ascontiguousarray(values)
            group.create_array(
                name, shape=values.shape, chunks=(4, *values.shape[1:]), dtype=values.dtype, compressors=None
            )[...] = values
        check(tmp_path / "take.zarr", frames, index)
        more, more_index = rows_of(description, 3, first=6)
        write(tmp_path / "take.zarr", description, [(more, more_index)], append=True)
        check(tmp_path / "take.zarr", join(frames, more), join(index, more_index))


def test_large_metas_do_not_make_large_chunks(tmp_path) -> None:
    description = describe(meta=f"V{1 << 20}")
    frames, index = rows_of(description, 2)
    write(tmp_path / "take.zarr", description, [(frames, index)])
    assert max(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) <= 4 << 20


# ---- other programs


@pytest.mark.parametrize(
    ("attrs", "names"),
    [
        ({}, ["axis_1", "axis_2"]),
        ({"axes": ["row", "column"]}, ["row", "column"]),
        ({"axes": ["row"]}, ["axis_1", "axis_2"]),
        ({"axes": ["x", "x"]}, ["axis_1", "axis_2"]),
        ({"axes": ["frame", "seq"]}, ["axis_1", "axis_2"]),
        ({"axes": [1, None]}, ["axis_1", "axis_2"]),
        ({"axes": "yx"}, ["axis_1", "axis_2"]),
    ],
    ids=str,
)
def test_names_of_axes(tmp_path, attrs, names) -> None:
    for dtype, octets in (("f4", []), (PADDED, ["frames_bytes"])):
        path = tmp_path / f"{len(octets)}.zarr"
        write(path, describe(dtype, (2, 3), meta=PADDED, attrs=attrs), [])
        group = zarr.open_group(path, mode="r")
        assert list(group["frames"].metadata.dimension_names) == ["frame", *names, *octets]
        assert list(group["meta"].metadata.dimension_names) == ["frame", "meta_bytes"]
        assert list(group["seq"].metadata.dimension_names) == ["frame"]


@pytest.mark.parametrize("dtype", ["f4", PADDED, "M8[ns]", "U3"], ids=str)
def test_xarray_opens_it(tmp_path, monkeypatch, dtype) -> None:
    """While it is recorded, too: every column has the same length, however the frames fill chunks."""
    xarray = pytest.importorskip("xarray")
    monkeypatch.setattr(_columns, "CHUNK", 1000)
    monkeypatch.setattr(_columns, "INDEX_CHUNK", 4)
    path, description = tmp_path / "take.zarr", describe(dtype, (2, 3), meta=PADDED, variable_rows=True)
    writer = _zarr.ZarrWriter(path, description, append=False)
    for count in (0, 1, 9):
        frames, index = rows_of(description, count)
        writer.write(frames, index)
        writer.flush()
        with xarray.open_zarr(path, consolidated=False) as dataset:
            assert dataset.sizes["frame"] == writer.frames
            assert {"frames", "seq", "timestamp_ns", "lost_before", "rows", "meta"} == set(dataset)
    writer.close("stopped", 0)
    with xarray.open_zarr(path, consolidated=False) as dataset:
        assert dataset["seq"].values.tolist() == [0, *range(9)]


def consolidate(path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in no specification yet
        zarr.consolidate_metadata(path)


def test_consolidated_metadata_are_not_believed(tmp_path) -> None:
    """They keep old lengths: an append through them would cut frames off. So it drops them."""
    path, description = tmp_path / "take.zarr", describe()
    frames, index = rows_of(description, 9)
    write(path, description, [(frames[:3], index[:3])])
    consolidate(path)
    writer = _zarr.ZarrWriter(path, description, append=True)
    consolidate(path)
    writer.write(frames[3:5], index[3:5])
    writer.flush()
    check(path, frames[:5], index[:5])
    writer.close("stopped", 0)
    assert json.loads((path / "zarr.json").read_text()).get("consolidated_metadata") is None
    consolidate(path)
    write(path, description, [(frames[5:], index[5:])], append=True)
    check(path, frames, index)
    assert zarr.open_group(path, mode="r")["frames"].shape == (9, 3)


def test_other_groups(tmp_path) -> None:
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(recording.RecordingCorrupt, match="a Zarr group without the attribute 'shmring'"):
        recording.open_recording(tmp_path / "other.zarr")
    path = tmp_path / "take.zarr"
    write(path, describe(), [])
    del zarr.open_group(path)["lost_before"]
    with pytest.raises(recording.RecordingCorrupt, match="a part of it is missing: 'lost_before'"):
        recording.open_recording(path)


# ---- whatever ends it


class Killed(BaseException):
    """Simulates the end of the process: nothing is tidied up."""


class Steps:
    """Calls `before(number)` before each call that changes a name in the folder."""

    def __init__(self, monkeypatch, before) -> None:
        self.number = 0
        for name in ("replace", "rename", "unlink"):
            monkeypatch.setattr(pathlib.Path, name, self._counted(getattr(pathlib.Path, name), before))

    def _counted(self, change, before):
        def changed(path, *args, **kwargs):
            self.number += 1
            before(self.number)
            return change(path, *args, **kwargs)

        return changed


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """Four frames in a chunk, and three rows in one of the index: writes are for several."""
    monkeypatch.setattr(_columns, "CHUNK", 4 * (DESCRIPTION.frame_format.frame_bytes + 4))
    monkeypatch.setattr(_columns, "INDEX_CHUNK", 3)


DESCRIPTION = describe(meta="f4")


def count_found(path, frames, index) -> int:
    """Check that what is found are the first frames; how many."""
    try:
        with recording.open_recording(path) as found:
            count = len(found)
    except FileNotFoundError:
        return 0
    check(path, frames[:count], index[:count])
    return count


def record_both(path, frames, index) -> None:
    """Record two frames, then append one, and more than a chunk has room for."""
    write(path, DESCRIPTION, [(frames[:2], index[:2])])
    append_more(path, frames, index)


def append_more(path, frames, index) -> None:
    parts = [(frames[some], index[some]) for some in (slice(2, 3), slice(3, 7))]
    write(path, DESCRIPTION, parts, append=True)


def test_opened_at_every_moment(tmp_path, monkeypatch, small_chunks) -> None:
    """Whole frames, never fewer than before, and never an error of a recording that is none."""
    path, found = tmp_path / "take.zarr", [0]
    frames, index = rows_of(DESCRIPTION, 7)
    steps = Steps(monkeypatch, lambda number: found.append(count_found(path, frames, index)))
    record_both(path, frames, index)
    assert steps.number > 40
    assert found == sorted(found)
    assert {0, 2, 3} <= set(found)


def killed_copies(tmp_path, monkeypatch, change, stride=1):
    """Change a copy of a recording, and be killed before the first step, before the next, and so on."""
    base, last = tmp_path / "base.zarr", 0
    frames, index = rows_of(DESCRIPTION, 7)
    write(base, DESCRIPTION, [(frames[:2], index[:2])])

    def kill(number: int) -> None:
        if number >= last:
            raise Killed

    while True:
        path, last = tmp_path / f"{last}.zarr", last + stride
        shutil.copytree(base, path)
        with monkeypatch.context() as patch:
            Steps(patch, kill)
            try:
                change(path, frames, index)
                return
            except Killed:
                pass
        yield path, frames, index


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.stress)])
def test_killed_at_every_step(tmp_path, monkeypatch, small_chunks, stride) -> None:
    """Readable, appendable and repairable, without unfinished rows then or later, and nothing left over."""
    more, more_index = rows_of(DESCRIPTION, 2, first=7)
    steps = 0
    for path, frames, index in killed_copies(tmp_path, monkeypatch, append_more, stride):
        steps += 1
        count = count_found(path, frames, index)
        assert count >= 2
        if steps % 2:
            assert _zarr.repair(path) == 0
            assert lengths(path) == {count}
            with recording.open_recording(path) as found:
                assert found.ended in ("killed", "stopped")
        else:
            resize(path, lambda rows: rows + 4)
            assert count_found(path, frames, index) == count
            write(path, DESCRIPTION, [(more, more_index)], append=True)
            check(path, join(frames[:count], more), join(index[:count], more_index))
        assert not list(path.rglob("*.partial"))
    assert steps * stride > 25


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.stress)])
def test_a_repair_that_is_killed_at_every_step(tmp_path, monkeypatch, small_chunks, stride) -> None:
    def repair(path, frames, index) -> None:
        resize(path, lambda rows: 4)
        _zarr.repair(path)

    for path, frames, index in killed_copies(tmp_path, monkeypatch, repair, stride):
        assert count_found(path, frames, index) == 2


def test_killed_while_it_is_made(tmp_path, monkeypatch) -> None:
    """Nobody finds half a recording, and the next one of that name is not in its way."""
    path = tmp_path / "take.zarr"

    def kill(number: int) -> None:
        if number == 4:
            raise Killed

    with monkeypatch.context() as patch:
        Steps(patch, kill)
        with pytest.raises(Killed):
            write(path, DESCRIPTION, [])
    assert not path.exists()
    write(path, DESCRIPTION, [])
    _zarr.repair(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stride", [5, pytest.param(2, marks=pytest.mark.stress)])
def test_a_write_that_fails_at_every_few_steps(tmp_path, small_chunks, stride) -> None:
    """The columns end together, with whole frames, and the file says why."""
    frames, index = rows_of(DESCRIPTION, 7)
    failed, empty = 0, tmp_path / "empty.zarr"
    write(empty, DESCRIPTION, [])
    for last in range(1, 1000, stride):
        path = tmp_path / f"{last}.zarr"

        def fail(number: int, last: int = last) -> None:
            if number == last:
                raise OSError(28, "No space left on device")

        writer = _zarr.ZarrWriter(shutil.copytree(empty, path), DESCRIPTION, append=True)
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, fail)
            ended = "stopped"
            try:
                for some in (slice(0, 1), slice(1, 7)):
                    writer.write(frames[some], index[some])
                    writer.flush()
            except OSError:
                failed, ended = failed + 1, "write failed"
            try:
                writer.close(ended, 0)
            except OSError:  # only the totals are missing
                continue
        assert lengths(path) == {writer.frames}
        assert count_found(path, frames, index) == writer.frames
        with recording.open_recording(path) as found:
            assert found.ended == ended
        if ended == "stopped":
            break
    assert failed > 5


def test_a_flush_that_fails_at_the_end(tmp_path, monkeypatch) -> None:
    """The file does not say "stopped" of frames that are not in it."""
    frames, index = rows_of(DESCRIPTION, 3)
    writer = _zarr.ZarrWriter(tmp_path / "take.zarr", DESCRIPTION, append=False)
    writer.write(frames, index)
    monkeypatch.setattr(_columns, "SPARE", 1 << 62)
    with pytest.raises(OSError, match="No space left"):
        writer.close("stopped", 0)
    with recording.open_recording(tmp_path / "take.zarr") as found:
        assert (len(found), found.ended) == (0, "write failed")


def test_rows_that_were_cut_do_not_come_back(tmp_path, small_chunks) -> None:
    """Zarr keeps cut rows in the last chunk: an append writes over them before there is room for more."""
    path = tmp_path / "take.zarr"
    frames, index = rows_of(DESCRIPTION, 6)
    write(path, DESCRIPTION, [(frames, index)])
    resize(path, lambda rows: 4)
    _zarr.repair(path)
    resize(path, lambda rows: 6)
    check(path, frames[:4], index[:4])


def test_frames_behind_a_lost_part_are_not_cut(tmp_path, small_chunks) -> None:
    """A chunk of seqs is missing: read as far as it goes; no append or repair that would lose the rest."""
    path = tmp_path / "take.zarr"
    frames, index = rows_of(DESCRIPTION, 11)
    write(path, DESCRIPTION, [(frames, index)])
    (path / "seq/c/1").unlink()
    check(path, frames[:3], index[:3])
    for change in (lambda: _zarr.repair(path), lambda: _zarr.ZarrWriter(path, DESCRIPTION, append=True)):
        with pytest.raises(recording.RecordingCorrupt, match="row 3 has no seq, unlike 5 rows behind it"):
            change()
    assert lengths(path) == {11}


def test_left_over_parts_are_removed(tmp_path) -> None:
    path, unique = tmp_path / "take.zarr", "0123456789abcdef" * 2
    write(path, DESCRIPTION, [])
    others = [tmp_path / "other.zarr.0.partial", tmp_path / "take.zarr.backup.partial"]  # the user's own
    for other in others:
        other.mkdir()
    left = [path / "frames/c/0.1.partial", path / "zarr.2.partial"]
    for change in (lambda: _zarr.repair(path), lambda: write(path, DESCRIPTION, [], append=True)):
        (tmp_path / f"take.zarr.{unique}.partial/frames").mkdir(parents=True)
        (path / "frames/c").mkdir(exist_ok=True)
        for file in left:
            file.write_bytes(b"half")
        change()
        assert sorted(tmp_path.rglob("*.partial")) == others


def test_nothing_is_left_of_a_recording_that_could_not_be_made(tmp_path, monkeypatch) -> None:
    def fail(number: int) -> None:
        raise OSError(28, "No space left on device")

    Steps(monkeypatch, fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "take.zarr", DESCRIPTION, [])
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
    write(tmp_path / "take.zarr", DESCRIPTION, [])
    with pytest.raises(FileExistsError, match="exists"):
        write(tmp_path / "take.zarr", DESCRIPTION, [])
