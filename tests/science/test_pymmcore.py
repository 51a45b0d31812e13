"""Micro-Manager: acquisitions of pymmcore-plus into a ring, of a camera in Python and of the demo camera."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pymmcore_plus")

import useq
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.experimental.unicore import UniMMCore
from pymmcore_plus.experimental.unicore.devices._camera import SimpleCameraDevice
from pymmcore_plus.mda import MDAEngine, SkipEvent

import shmring
import shmring.attrs
from shmring.pymmcore import RingHandler
from support.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Camera(SimpleCameraDevice):
    """Image n is full of n."""

    def __init__(self, shape=(4, 6), dtype="u2"):
        super().__init__()
        self.image, self.number = (shape, np.dtype(dtype)), 0

    def get_exposure(self):
        return 1.0

    def set_exposure(self, exposure):
        pass

    def sensor_shape(self):
        return self.image[0]

    def dtype(self):
        return self.image[1]

    def snap(self, buffer):
        buffer[:] = self.number
        self.number += 1
        return {"temperature": "-20.5", "lamp": "halogen"}


class SkippingEngine(MDAEngine):
    """Skips the events of these times."""

    times: tuple[int, ...] = ()

    def setup_event(self, event):
        if event.index.get("t") in self.times:
            raise SkipEvent(num_frames=1)
        super().setup_event(event)


@pytest.fixture
def core():
    core = UniMMCore()
    core.mda.set_engine(SkippingEngine(core))
    core.mda.engine.use_hardware_sequencing = False
    camera = Camera()
    core.loadPyDevice("Camera", camera)
    core.initializeDevice("Camera")
    core.setCameraDevice("Camera")
    core.setAutoShutter(False)  # there is none
    core.camera = camera
    yield core
    core.unloadAllDevices()


def run(core, handler, sequence) -> None:
    thread = core.run_mda(sequence, output=handler)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def loops(number: int, **more) -> useq.MDASequence:
    return useq.MDASequence(time_plan={"interval": 0, "loops": number}, **more)


def taken(frames) -> list[tuple[int, int, int]]:
    """seq, value and loss of each frame, up to the end of the stream."""
    return [(frame.seq, int(frame.array.flat[0]), frame.lost) for frame in frames]


@pytest.mark.parametrize("sequencing", [False, True])
def test_an_acquisition_is_a_stream(core, name, sequencing):
    core.mda.engine.use_hardware_sequencing = sequencing
    with RingHandler(name) as handler:
        assert handler.ring is None
        run(core, handler, loops(5))
        with shmring.Ring.attach(name) as ring, ring.consumer() as frames:
            assert (ring.shape, ring.dtype) == ((4, 6), np.dtype("u2"))
            assert ring.attrs["color"] == "gray"
            assert ring.attrs["source"] == "micro-manager:Camera"
            assert [axis["name"] for axis in ring.attrs["axes"]] == ["y", "x"]
            assert taken(frames) == [(n, n, 0) for n in range(5)]
        assert handler.error is None
    with pytest.raises(shmring.RingNotFound):
        shmring.Ring.attach(name)


def test_meta(core, make):
    fields = [
        ("t", "i4"),
        ("c", "i8"),
        ("z", "i2"),
        ("exposure_ms", "f4"),
        ("lamp", "U4"),
        ("temperature", "f8"),
    ]
    ring = make(
        shape=(4, 6), dtype="u2", meta=[*fields, ("lacking", "U3"), ("camera_device", "S9"), ("Height", "i4")]
    )
    core.mda.engine.use_hardware_sequencing = True  # which brings the camera's own metadata
    with ring.consumer() as frames:
        run(core, RingHandler(ring), loops(2))
        with frames.get(0) as first, frames.get(0) as second:
            assert first.meta.item()[:6] == (0, -1, -1, 1.0, "halo", -20.5)
            assert second.meta["t"] == 1
            assert first.meta.item()[6:] == ("", b"Camera", 4)


def test_the_meta_of_a_ring_that_is_created(core, name):
    with RingHandler(name) as handler:
        run(core, handler, loops(2))
        with handler.ring.consumer() as frames, frames.get(0) as frame:
            meta = frame.meta
            assert [int(meta[axis]) for axis in "tpgcz"] == [0, -1, -1, -1, -1]
            assert meta["exposure_ms"] == 1.0
            assert meta["runner_time_ms"] > 0


@pytest.mark.parametrize(
    ("skipped", "expected"),
    [
        ((1, 2), [(0, 0, 0), (3, 1, 2), (4, 2, 0)]),
        ((0,), [(1, 0, 1), (2, 1, 0), (3, 2, 0), (4, 3, 0)]),
        ((4,), [(0, 0, 0), (1, 1, 0), (2, 2, 0), (3, 3, 0)]),
    ],
)
def test_skipped_events_are_lost_frames(core, make, skipped, expected):
    core.mda.engine.times = skipped
    ring = make(shape=(4, 6), dtype="u2", slots=8)
    with ring.consumer() as frames:
        run(core, RingHandler(ring), loops(5))
        assert taken(frames) == expected
    assert ring.stats().dropped == len(skipped)


def test_events_without_an_image_are_no_losses(make):
    ring = make(shape=(2,), dtype="u2", slots=8)
    handler = RingHandler(ring)
    focus = {"autofocus_device_name": "Z", "axes": ("t",), "autofocus_motor_offset": 1}
    sequence = loops(3, autofocus_plan=focus, stage_positions=[(0, 0, 0)])
    assert len(list(sequence)) > 3
    with ring.consumer() as frames:
        handler.sequenceStarted(sequence, {})
        for event in sequence:
            if event.action.type == "acquire_image":
                handler.frameReady(np.zeros(2, "u2"), event, {})
        handler.sequenceFinished(sequence)
        assert taken(frames) == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]


def test_two_cameras_per_event_and_events_in_another_order(make):
    ring = make(shape=(2,), dtype="u2", slots=16)
    handler = RingHandler(ring)
    sequence = loops(3)
    events = list(sequence)
    for order in ([0, 0, 1, 1, 2, 2], [2, 1, 0]):
        with ring.consumer(start="next") as frames:
            handler.sequenceStarted(sequence, {})
            for number in order:
                handler.frameReady(np.full(2, number, "u2"), events[number], {})
            handler.sequenceFinished(sequence)
            values = [value for _, value, _ in taken(frames)]
            assert values == order


def test_a_cancelled_acquisition_ends_without_losses(make):
    ring = make(shape=(2,), dtype="u2")
    handler, sequence = RingHandler(ring), loops(100)
    with ring.consumer() as frames:
        handler.sequenceStarted(sequence, {})
        handler.frameReady(np.zeros(2, "u2"), next(iter(sequence)), {})
        handler.sequenceCanceled(sequence)
        handler.sequenceFinished(sequence)
        assert taken(frames) == [(0, 0, 0)]
    assert ring.stats().dropped == 0


def test_events_that_are_made_up_on_the_way(core, make):
    ring = make(shape=(4, 6), dtype="u2", slots=8)
    with ring.consumer() as frames:
        run(core, RingHandler(ring), iter([useq.MDAEvent(), useq.MDAEvent()]))
        assert [value for _, value, _ in taken(frames)] == [0, 1]


def test_one_ring_for_several_acquisitions(core, name):
    with RingHandler(name) as handler:
        run(core, handler, loops(2))
        ring = handler.ring
        run(core, handler, loops(2))
        assert handler.ring is ring
        with ring.consumer() as frames:
            assert [value for _, value, _ in taken(frames)] == [0, 1, 2, 3]
        core.camera.image = (3, 5), np.dtype("u1")
        run(core, handler, loops(2))
        assert handler.ring.shape == (3, 5)
        assert ring.closed


def test_another_scale_is_another_ring(name):
    """Attrs belong to the ring: consumers must not find the pixel size of an earlier objective."""
    image = {"plane_shape": (4, 6), "dtype": "u2", "camera_label": "Camera"}
    with RingHandler(name) as handler:
        for size in (0.5, 0.5, 0.25):
            handler.sequenceStarted(loops(1), {"image_infos": [{**image, "pixel_size_um": size}]})
            handler.sequenceFinished(loops(1))
            assert handler.error is None
            assert [axis["scale"] for axis in handler.ring.attrs["axes"]] == [size, size]
            if size == 0.5:
                first = handler.ring
        assert handler.ring is not first


IMAGE = {"plane_shape": (4, 6), "dtype": "u2"}


def test_images_of_several_cameras_say_whose_they_are(name):
    """Micro-Manager's Multi Camera: their events have the same index."""
    labels = ("Multi", "left", "right")
    both = [{"plane_shape": (4, 6), "dtype": "u2", "camera_label": label} for label in labels]
    with RingHandler(name) as handler:
        handler.sequenceStarted(None, {"image_infos": both})
        with handler.ring.consumer() as frames:
            for label in labels[1:]:
                handler.frameReady(np.zeros((4, 6), "u2"), useq.MDAEvent(), {"camera_device": label})
            assert [str(frames.get(0).meta["camera_device"]) for _ in range(2)] == ["left", "right"]
        handler.sequenceFinished(None)
        handler.sequenceStarted(None, {"image_infos": both[:1]})
        assert handler.error is None
        assert "camera_device" not in handler.ring.meta_dtype.names
        handler.sequenceFinished(None)


def test_a_handler_that_is_closed_too_early_says_so(name, caplog):
    """As by a `with` block that does not join the acquisition's thread."""
    with RingHandler(name) as handler:
        handler.sequenceStarted(loops(3), {"image_infos": [IMAGE]})
        handler.frameReady(np.ones((4, 6), "u2"), useq.MDAEvent(index={"t": 0}), {})
        ring = shmring.Ring.attach(name)
        frames = ring.consumer()
    handler.frameReady(np.ones((4, 6), "u2"), useq.MDAEvent(index={"t": 1}), {})
    handler.sequenceFinished(loops(3))
    assert "closed before the acquisition had ended" in str(handler.error)
    with ring, frames:
        assert frames.get(timeout=PATIENCE).seq == 0
        with pytest.raises(shmring.ProducerFailed, match="join"):
            frames.get(timeout=PATIENCE)
    assert len(caplog.records) == 1


def test_a_closed_handler_makes_no_ring(name):
    """The acquisition's thread may begin after the block has ended."""
    with RingHandler(name) as handler:
        pass
    handler.sequenceStarted(loops(1), {"image_infos": [IMAGE]})
    assert handler.ring is None
    assert "closed before the acquisition had ended" in str(handler.error)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["no/name"], {}, "name"),
        ([None], {}, "ring must be a Ring or its name"),
        ([5], {}, "ring must be a Ring or its name"),
        (["camera"], {"slots": 1}, "slots"),
        (["camera"], {"slots": 2.5}, "slots"),
        (["camera"], {"on_full": "raise"}, "on_full"),
    ],
)
def test_wrong_options_are_refused_at_once(arguments, options, message):
    """Not in the acquisition, which nothing may interrupt."""
    with pytest.raises((TypeError, ValueError), match=message):
        RingHandler(*arguments, **options)


def test_a_full_ring_drops(core, make):
    ring = make(shape=(4, 6), dtype="u2", slots=2)
    with ring.consumer() as frames:
        run(core, RingHandler(ring), loops(ring.slots + 3))
        assert len(taken(frames)) == ring.slots
    assert ring.stats().dropped == 3


def test_images_that_do_not_fit_end_the_stream_but_not_the_acquisition(core, make, caplog):
    ring = make(shape=(4, 5), dtype="u2")
    handler = RingHandler(ring)
    with ring.consumer() as frames:
        run(core, handler, loops(3))
        assert core.camera.number == 3
        with pytest.raises(shmring.ProducerFailed):
            frames.get(timeout=PATIENCE)
    assert isinstance(handler.error, ValueError)
    assert [record.message for record in caplog.records if record.name == "shmring"] == [
        f"RingHandler: {handler.error}"
    ]
    with make(shape=(4, 6), dtype="u2", meta="f8") as single:
        handler = RingHandler(single)
        run(core, handler, loops(1))
        assert "needs fields" in str(handler.error)


def test_a_ring_that_another_program_fills(core, ring):
    handler = RingHandler(ring)
    with ring.producer():
        run(core, handler, loops(2))
        assert isinstance(handler.error, shmring.ProducerExists)


def test_an_engine_that_says_nothing_of_its_images(name):
    with RingHandler(name) as handler:
        handler.sequenceStarted(loops(1), {})
        assert str(handler.error).startswith("the engine does not say what its images are: create ring")


# ---- the demo microscope of Micro-Manager


@pytest.fixture(scope="module")
def microscope():
    """Camera, stages and a filter wheel."""
    adapters = pytest.importorskip("mm_test_adapters")
    core = CMMCorePlus(adapter_paths=[str(adapters.device_adapter_path())])
    for label, device in {"Camera": "DCam", "Z": "DStage", "XY": "DXYStage", "Wheel": "DWheel"}.items():
        core.loadDevice(label, "DemoCamera", device)
        core.initializeDevice(label)
    core.setCameraDevice("Camera")
    core.setFocusDevice("Z")
    core.setXYStageDevice("XY")
    core.setExposure(1)
    core.setAutoShutter(False)  # there is none
    for state, channel in enumerate(["DAPI", "FITC"]):
        core.defineConfig("Channel", channel, "Wheel", "State", str(state))
    for setting in ("OnCameraCCDXSize", "OnCameraCCDYSize"):
        core.setProperty("Camera", setting, "64")
    yield core
    core.unloadAllDevices()


STACK = {"range": 2, "step": 1}
SEQUENCES = {
    "every axis": {
        "time_plan": {"interval": 0, "loops": 2}, "channels": ["DAPI", "FITC"], "z_plan": STACK,
        "stage_positions": [(0, 0), (1, 1)],
    },
    "not every time": {
        "time_plan": {"interval": 0.001, "loops": 4}, "axis_order": "tc",
        "channels": [{"config": "DAPI", "acquire_every": 2}, "FITC"],
    },
    "not every stack": {"z_plan": STACK, "channels": [{"config": "DAPI", "do_stack": False}, "FITC"]},
    "sequences within": {
        "stage_positions": [{"x": 0, "y": 0, "sequence": {"z_plan": STACK}}, (1, 1)],
        "grid_plan": {"rows": 2, "columns": 1},
    },
}  # fmt: skip


@pytest.mark.parametrize("sequencing", [False, True])
@pytest.mark.parametrize("plan", SEQUENCES)
def test_acquisitions_of_every_kind_are_whole(microscope, name, plan, sequencing):
    """The index in each frame's meta is that of the sequence's events, and nothing counts as lost."""
    microscope.mda.engine.use_hardware_sequencing = sequencing
    sequence = useq.MDASequence(**SEQUENCES[plan])
    events = [tuple(event.index.get(axis, -1) for axis in "tpgcz") for event in sequence]
    with RingHandler(name, slots=64) as handler:
        run(microscope, handler, sequence)
        with handler.ring.consumer() as frames:
            metas = [tuple(int(frame.meta[axis]) for axis in "tpgcz") for frame in frames]
        assert metas == events
        assert handler.ring.stats().dropped == 0
        assert handler.error is None


@pytest.mark.parametrize(
    ("pixels", "shape", "dtype"), [("16bit", (32, 64), "u2"), ("32bitRGB", (32, 64, 3), "u1")]
)
def test_the_demo_camera(name, pixels, shape, dtype):
    adapters = pytest.importorskip("mm_test_adapters")
    core = CMMCorePlus(adapter_paths=[str(adapters.device_adapter_path())])
    core.loadDevice("Camera", "DemoCamera", "DCam")
    core.initializeDevice("Camera")
    core.setCameraDevice("Camera")
    for setting, value in {"PixelType": pixels, "OnCameraCCDXSize": "64", "OnCameraCCDYSize": "32"}.items():
        core.setProperty("Camera", setting, value)
    seen = []
    core.mda.events.frameReady.connect(lambda image, event, meta: seen.append(image.copy()))
    with RingHandler(name) as handler:
        run(core, handler, loops(3))
        assert handler.error is None
        assert (handler.ring.shape, handler.ring.dtype) == (shape, np.dtype(dtype))
        shmring.attrs.check(handler.ring.attrs, shape, dtype)
        assert shmring.attrs.read(handler.ring).color == handler.ring.attrs["color"]
        with handler.ring.consumer() as frames:
            for image in seen:
                with frames.get(0) as frame:
                    assert np.array_equal(frame.array, image)
    core.unloadAllDevices()
