"""The example's camera as one of LeRobot's: by the page's own lines, LeRobot's base class and its factory."""

from __future__ import annotations

import importlib
import inspect
import re
import time
from pathlib import Path

import numpy as np
import pytest

import shmring

cameras = pytest.importorskip("lerobot.cameras")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The module of the page, beside the example."""
    folder = tmp_path_factory.mktemp("robot")
    page = (TREE / "docs" / "how-to" / "robots.md").read_text()
    (code,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (folder / "wrist.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TREE / "examples")
        patch.syspath_prepend(folder)
        yield importlib.import_module("wrist")


def test_a_ring_is_a_camera_of_lerobot(module, make):
    ring = make(shape=(48, 64, 3), dtype="u1", slots=8, attrs={"frame_rate": 30.0})
    config = module.RingCameraConfig(name=ring.name, width=64, height=48, fps=30)
    assert config.type == "ring"
    (camera,) = cameras.make_cameras_from_configs({"wrist": config}).values()
    assert isinstance(camera, cameras.Camera)
    for name, method in inspect.getmembers(cameras.Camera, inspect.isfunction):
        if not name.startswith("__"):
            assert [*inspect.signature(getattr(type(camera), name)).parameters] == [
                *inspect.signature(method).parameters
            ], name
    with pytest.raises(ConnectionError):  # as LeRobot's own error is one
        camera.read()
    with ring.producer() as out:
        out.put(np.full((48, 64, 3), 1, "u1"))
        with camera:
            assert camera.is_connected
            assert (camera.width, camera.height, camera.fps) == (64, 48, 30)
            assert (camera.read_latest() == 1).all()
            with pytest.raises(TimeoutError):
                camera.async_read(timeout_ms=1)
            with pytest.raises(ConnectionError):
                camera.connect()
            out.put(np.full((48, 64, 3), 2, "u1"))
            assert (camera.async_read() == 2).all()
            out.put(np.full((48, 64, 3), 3, "u1"))
            assert (camera.read() == 3).all()
            out.put(np.full((48, 64, 3), 4, "u1"), timestamp_ns=time.perf_counter_ns() - 10**9)
            with pytest.raises(TimeoutError, match=r"is 10\d\d ms old"):
                camera.read_latest()
            assert (camera.read_latest(max_age_ms=60_000) == 4).all()
        assert not camera.is_connected
    found = [one for one in camera.find_cameras() if one["id"] == ring.name]
    assert [one["type"] for one in found] == ["shmring"]


def test_a_camera_without_images(module, make):
    ring = make(shape=(48, 64, 3), dtype="u1", slots=8)
    camera = module.RingCamera(module.RingCameraConfig(name=ring.name))
    with ring.producer():
        camera.connect(warmup=False)
        with pytest.raises(RuntimeError, match="has taken no image yet"):
            camera.read_latest()
        camera.disconnect()
    with pytest.raises(shmring.RingNotFound):
        module.RingCamera(module.RingCameraConfig(name="missing", timeout=0.01)).connect()
