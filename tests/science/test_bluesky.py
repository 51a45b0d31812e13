"""Bluesky: runs whose documents point into an HDF5 recording, and Tiled, which reads it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

pytest.importorskip("ophyd_async")
pytest.importorskip("h5py")

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
from bluesky import RunEngine
from bluesky.utils import FailedStatus
from ophyd_async.core import (
    StandardDetector,
    StaticFilenameProvider,
    StaticPathProvider,
    TriggerInfo,
    UUIDFilenameProvider,
)

import shmring
from shmring.bluesky import RingDataLogic, RingDetector
from support.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COLUMNS = ["det", "det-seq", "det-timestamp_ns", "det-lost_before"]


@pytest.fixture(scope="module")
def engine():
    return RunEngine({}, call_returns_result=True)


@pytest.fixture
def documents(engine):
    found: list[tuple[str, dict]] = []
    token = engine.subscribe(lambda name, document: found.append((name, document)))
    yield found
    engine.unsubscribe(token)


@pytest.fixture
def paths(tmp_path):
    return StaticPathProvider(StaticFilenameProvider("take"), tmp_path)


@contextmanager
def streaming(ring):
    """A camera that never stops, and waits for a detector that is slow: frame n is full of n."""
    stop = threading.Event()

    def stream():
        with ring.producer() as out:
            while not stop.wait(0.002):
                out.put(np.full(ring.shape, out.next_seq % 100, ring.dtype), timeout=PATIENCE)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)


def named(documents, wanted: str) -> list[dict]:
    return [document for name, document in documents if name == wanted]


def recorded(tmp_path):
    return shmring.recording.open_recording(tmp_path / "take.h5")


def fly(detector, frames: int, *, collections_per_event: int = 1):
    @bpp.stage_decorator([detector])
    @bpp.run_decorator()
    def plan():
        events = frames // collections_per_event
        info = TriggerInfo(number_of_events=events, collections_per_event=collections_per_event)
        yield from bps.prepare(detector, info, wait=True)
        yield from bps.declare_stream(detector, name="main", collect=True)
        yield from bps.kickoff(detector, wait=True)
        yield from bps.collect_while_completing([detector], [detector], flush_period=0.05, stream_name="main")

    return plan()


def test_a_step_scan_takes_one_frame_for_each_point(make, engine, documents, paths, tmp_path):
    ring = make(shape=(4, 6), dtype="u2", slots=8)
    detector = RingDetector(ring, paths, name="det")
    with streaming(ring):
        engine(bp.count([detector], num=3))
    with recorded(tmp_path) as recording:
        assert len(recording) == 3
        assert all((frame.array == frame.seq % 100).all() for frame in recording)
        assert np.all(np.diff(recording.seqs.astype("i8")) > 0)
    [descriptor] = named(documents, "descriptor")
    assert list(descriptor["data_keys"]) == COLUMNS
    assert descriptor["data_keys"]["det"]["shape"] == [1, 4, 6]
    assert descriptor["data_keys"]["det"]["dtype_numpy"] == "<u2"
    resources = named(documents, "stream_resource")
    assert [resource["data_key"] for resource in resources] == COLUMNS
    assert {resource["uri"] for resource in resources} == {f"file://localhost{tmp_path}/take.h5"}
    ranges = [document["indices"] for document in named(documents, "stream_datum")]
    assert [(span["start"], span["stop"]) for span in ranges[::4]] == [(0, 1), (1, 2), (2, 3)]
    assert ring.stats().consumers == ()


def test_a_fly_scan_takes_the_next_frames_without_a_gap(make, engine, documents, paths, tmp_path):
    ring = make(shape=(4, 6), dtype="u2", slots=64)
    with streaming(ring):
        engine(fly(RingDetector(ring.name, paths, name="det"), 60))
    with recorded(tmp_path) as recording:
        assert len(recording) == 60
        assert set(np.diff(recording.seqs)) == {1}
        assert not recording.lost_before.any()
    stops = [document["indices"]["stop"] for document in named(documents, "stream_datum")]
    assert stops[-1] == 60


def test_dropped_frames_are_in_the_documents(make, engine, documents, paths, tmp_path):
    h5py = pytest.importorskip("h5py")
    ring = make(shape=(2,), dtype="u2", slots=64)

    def stream():
        with ring.producer() as out:
            out.wait_for_consumers(1, timeout=PATIENCE)
            for gap in (0, 2, 0, 5):
                out.drop(gap) if gap else None
                out.put(np.zeros(2, "u2"))

    camera = threading.Thread(target=stream)
    camera.start()
    engine(fly(RingDetector(ring, paths, name="det"), 4))
    camera.join(PATIENCE)
    resources = {document["data_key"]: document for document in named(documents, "stream_resource")}
    with h5py.File(tmp_path / "take.h5") as file:
        lost = file[resources["det-lost_before"]["parameters"]["dataset"]][:]
        seqs = file[resources["det-seq"]["parameters"]["dataset"]][:]
    assert lost.tolist() == [0, 2, 0, 5]
    assert seqs.tolist() == [0, 3, 4, 10]


def test_several_collections_per_event(make, engine, documents, paths, tmp_path):
    ring = make(shape=(2,), dtype="f4", slots=64)
    with streaming(ring):
        engine(fly(RingDetector(ring, paths, name="det"), 12, collections_per_event=3))
    [descriptor] = named(documents, "descriptor")
    assert descriptor["data_keys"]["det"]["shape"] == [3, 2]
    assert named(documents, "stream_datum")[-1]["indices"]["stop"] == 4


def test_others_read_the_file_while_it_is_written(make, engine, paths, tmp_path):
    """In single-writer mode (SWMR), from another process."""
    ring = make(shape=(4, 6), dtype="u2", slots=64)
    program = (
        "import h5py, sys; file = h5py.File(sys.argv[1], swmr=True, libver='latest');"
        "print(file['frames'].shape[1:], (file['frames'][0] == file['seq'][0] % 100).all())"
    )
    seen = []

    class Reader:
        def __call__(self, name, document):
            if name == "stream_datum" and not seen:
                command = [sys.executable, "-c", program, str(tmp_path / "take.h5")]
                seen.append(subprocess.run(command, capture_output=True, text=True, check=False))

    token = engine.subscribe(Reader())
    with streaming(ring):
        engine(fly(RingDetector(ring, paths, name="det"), 400))
    engine.unsubscribe(token)
    assert (seen[0].stdout, seen[0].stderr) == ("(4, 6) True\n", "")


def test_a_detector_with_logic_of_its_own(make, engine, paths, tmp_path):
    """All that is published while it is prepared is recorded."""
    from ophyd_async.core import DetectorAcquireLogic

    ring = make(shape=(2,), dtype="u2", slots=64)

    class Camera(DetectorAcquireLogic):
        async def start_acquiring(self):
            with ring.producer() as out:
                for number in range(5):
                    out.put(np.full(2, number, "u2"))

        async def wait_for_idle(self):
            pass

        async def ensure_stopped(self):
            pass

    class Detector(StandardDetector):
        def __init__(self):
            self.add_detector_logics(Camera(), RingDataLogic(ring, paths))
            super().__init__(name="det")

    engine(fly(Detector(), 5))
    with recorded(tmp_path) as recording:
        assert recording.array[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f8", "c8", ">u2", ">f4"], ids=str)
def test_dtypes_that_documents_describe(make, engine, documents, paths, tmp_path, dtype):
    h5py = pytest.importorskip("h5py")
    ring = make(shape=(3,), dtype=dtype, slots=8)
    with streaming(ring):
        engine(bp.count([RingDetector(ring, paths, name="det")]))
    [descriptor] = named(documents, "descriptor")
    with h5py.File(tmp_path / "take.h5") as file:
        assert file["frames"].dtype == np.dtype(descriptor["data_keys"]["det"]["dtype_numpy"])
        assert [
            resource["parameters"]["chunk_shape"] for resource in named(documents, "stream_resource")
        ] == [
            file[resource["parameters"]["dataset"]].chunks for resource in named(documents, "stream_resource")
        ]


def prepare(detector) -> None:
    async def work():
        await detector.stage()
        await detector.prepare(TriggerInfo(number_of_events=3))

    asyncio.run(work())


@pytest.mark.parametrize("dtype", ["longdouble", "M8[ns]", "S4", "U2", "V3", [("x", "u1")]], ids=str)
def test_dtypes_that_they_cannot_describe(make, paths, dtype):
    with pytest.raises(TypeError, match="which a StreamResource cannot describe: it has"):
        prepare(RingDetector(make(shape=(2,), dtype=dtype), paths, name="det"))


def test_what_cannot_be_prepared(make, paths, name):
    with pytest.raises(TypeError, match="ring must be a Ring or its name, not int"):
        RingDetector(5, paths)
    with pytest.raises(ValueError, match="no slash"):
        RingDetector("no/name", paths)
    with pytest.raises(TypeError, match="of varying length"):
        prepare(RingDetector(make(shape=(2,), variable_rows=True), paths, name="det"))
    with pytest.raises(shmring.RingNotFound):
        prepare(RingDetector(name, paths, name="det"))

    async def expose():
        await RingDetector(make(), paths, name="det").prepare(TriggerInfo(livetime=0.1))

    with pytest.raises(ValueError, match="takes frames as they come"):
        asyncio.run(expose())


@pytest.mark.parametrize(
    ("folder", "file", "said"), [("a b", "take 1", None), ("a", "take#1", "take#1"), ("why?", "take", "why")]
)
def test_a_path_that_readers_of_a_uri_would_not_find(make, tmp_path, folder, file, said):
    place = tmp_path / folder
    place.mkdir()
    detector = RingDetector(make(), StaticPathProvider(StaticFilenameProvider(file), place), name="det")
    if said is None:
        prepare(detector)
        return
    with pytest.raises(ValueError, match=f"{said}.* without # and \\?"):
        prepare(detector)
    assert not list(place.iterdir())


def test_a_file_that_is_there_is_not_replaced(make, engine, paths, tmp_path):
    (tmp_path / "take.h5").write_text("data of yesterday")
    ring = make()
    with streaming(ring), pytest.raises(FailedStatus, match="UUIDFilenameProvider") as raised:
        engine(bp.count([RingDetector(ring, paths, name="det")]))
    assert isinstance(raised.value.__cause__, FileExistsError)
    assert "mode=" not in str(raised.value)  # a detector has no such option
    assert (tmp_path / "take.h5").read_text() == "data of yesterday"


def test_a_stream_that_ends_too_early(make, paths, tmp_path):
    ring = make(shape=(2,), dtype="u2")

    async def work():
        detector = RingDetector(ring, paths, name="det")
        await detector.stage()
        await detector.prepare(TriggerInfo(number_of_events=3))
        await detector.kickoff()
        with ring.producer() as out:
            out.put(np.zeros(2, "u2"))
        while ring.stats().consumers:
            await asyncio.sleep(0.002)
        await detector.unstage()

    with pytest.raises(RuntimeError, match=r"ended \(producer closed\) after 1 frame of 3:"):
        asyncio.run(work())
    with recorded(tmp_path) as recording:
        assert len(recording) == 1
    assert ring.stats().consumers == ()


def test_several_runs_and_one_that_fails(make, engine, tmp_path):
    """Each has a file of its own, and none leaves a consumer."""
    ring = make(shape=(2,), dtype="u2", slots=8)
    detector = RingDetector(ring.name, StaticPathProvider(UUIDFilenameProvider(), tmp_path), name="det")

    @bpp.stage_decorator([detector])
    @bpp.run_decorator()
    def failing():
        yield from bps.trigger_and_read([detector])
        yield from bps.prepare(detector, TriggerInfo(number_of_events=1000), wait=True)
        yield from bps.kickoff(detector, wait=True)
        raise ZeroDivisionError("in the plan")

    with streaming(ring):
        engine(bp.count([detector], num=2))
        with pytest.raises(ZeroDivisionError):
            engine(failing())
        engine(bp.count([detector], num=2))
        assert ring.stats().consumers == ()
    lengths = []
    for path in tmp_path.glob("*.h5"):
        with shmring.recording.open_recording(path) as recording:
            lengths.append(len(recording))
            assert recording.ended in ("limit", "stopped")
            assert not recording.lost_before.any()
    assert len(lengths) == 3
    assert lengths.count(2) >= 2


# ---- Tiled


@contextmanager
def tiled_server(folder):
    """A client of a server in this process, with a catalogue of its own."""
    from tiled.catalog import in_memory
    from tiled.client import from_context
    from tiled.client.context import Context
    from tiled.server.app import build_app

    catalog = in_memory(
        writable_storage=[f"file://localhost{folder}/data", f"duckdb:///{folder}/tables.db"],
        readable_storage=[str(folder)],
    )
    with Context.from_app(build_app(catalog)) as context:
        yield from_context(context)


@pytest.mark.timeout(600)
def test_tiled_reads_the_frames_back(make, engine, tmp_path):
    """Cameras and meters of several kinds, in one run."""
    pytest.importorskip("tiled.server.app")
    pytest.importorskip("duckdb")
    from bluesky.callbacks.tiled_writer import TiledWriter

    kinds = {
        "a": ((4, 6), "u2"),
        "b": ((5,), "f4"),
        "c": ((), "i4"),
        "d": ((2, 3, 4), "u1"),
        "e": ((4,), ">u2"),
    }
    rings = {name: make(shape=shape, dtype=dtype, slots=8) for name, (shape, dtype) in kinds.items()}
    places = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
    detectors = [RingDetector(ring, places, name=name) for name, ring in rings.items()]
    with tiled_server(tmp_path) as client:
        token = engine.subscribe(TiledWriter(client))
        with ExitStack() as cameras:
            for ring in rings.values():
                cameras.enter_context(streaming(ring))
            result = engine(bp.count(detectors, num=3))
        engine.unsubscribe(token)
        stream = client[result.run_start_uids[0]]["primary"]
        for name, (shape, dtype) in kinds.items():
            frames, seqs = stream[name].read(), stream[f"{name}-seq"].read()
            assert frames.shape == (3, *shape)
            assert frames.dtype == np.dtype(dtype)
            assert np.array_equal(frames.reshape(3, -1)[:, 0], seqs % 100)
            assert not stream[f"{name}-lost_before"].read().any()
