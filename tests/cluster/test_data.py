"""Recordings as datasets of Ray Data."""

import numpy as np
import pytest

import shmring.recording

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("pyarrow", reason="needs ray[data]")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("default"),  # Ray Data's own
]

META = [("exposure", ">f8"), ("roi", "i2", (4,))]


@pytest.fixture
def take(make, tmp_path):
    """`take(suffix, ...)`: the path of a recording of 20 frames with a gap before each fifth one."""

    def record(suffix, **options):
        path = tmp_path / f"take{suffix}"
        ring = make(**{"slots": 32, "shape": (3, 5), "dtype": ">u2", **options})
        with ring.producer() as out, ring.consumer():
            for number in range(20):
                if number % 5 == 4:
                    out.drop(number)
                meta = {} if ring.meta_dtype is None else {"meta": (number / 2, [number] * 4)}
                out.put(np.full(ring.shape, number).astype(ring.dtype), timestamp_ns=number * 10, **meta)
        shmring.recording.record(ring, path)
        return path

    return record


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".h5"])
def test_every_frame_comes_with_what_belongs_to_it(cluster, take, suffix):
    from shmring.ray import read_recording

    path = take(suffix, meta=META)
    dataset = read_recording(path, override_num_blocks=4)
    assert dataset.count() == 20
    rows = sorted(dataset.take_all(), key=lambda row: row["seq"])
    with shmring.recording.open_recording(path) as recording:
        assert [row["seq"] for row in rows] == recording.seqs.tolist()
        assert [row["lost_before"] for row in rows] == recording.lost_before.tolist()
    for number, row in enumerate(rows):
        assert row["frame"].shape == (3, 5)
        assert (row["frame"] == number).all()
        assert row["timestamp_ns"] == number * 10
        assert (row["meta.exposure"], row["meta.roi"].tolist()) == (number / 2, [number] * 4)


def test_tasks_read_ranges(cluster, take):
    from shmring.ray._data import Frames

    tasks = Frames(take(".npy")).get_read_tasks(3)
    assert [task.metadata.num_rows for task in tasks] == [7, 7, 6]
    (last,) = tasks[-1]()
    assert last.num_rows == 6


@pytest.mark.parametrize("dtype", ["M8[ns]", [("x", "f4")], "S3", "c8"])
def test_what_arrow_cannot_hold_is_refused_at_once(cluster, take, dtype):
    from shmring.ray import read_recording

    with pytest.raises(ValueError, match="numbers and bools"):
        read_recording(take(".npy", dtype=dtype, shape=(2,)))


def test_a_missing_file(cluster, tmp_path):
    from shmring.ray import read_recording

    with pytest.raises(FileNotFoundError):
        read_recording(tmp_path / "none.npy")
