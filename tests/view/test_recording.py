"""Recordings that a page starts: only where it is allowed, and only into that folder."""

import sys

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra view")

from shmring import recording
from support.waiting import wait_until


@pytest.fixture
def camera(make):
    return make(shape=(20, 24), dtype="u1", slots=16)


def test_a_page_records_a_ring(serve, camera, tmp_path):
    served = serve([camera.name], allow_record=tmp_path)
    page, other = served.page(camera.name), served.page(camera.name)
    assert served.rings().next()["record"] is True
    with camera.producer() as out:
        page.say("record", path="take.npy")
        assert page.message("recording")["state"] == "recording"
        assert other.message("recording")["path"] == "take.npy"
        for number in range(5):
            out.put(np.full((20, 24), number, "u1"))
        while page.message("recording")["frames"] < 5:
            pass
        page.say("record_stop")
        while (ended := other.message("recording"))["state"] == "recording":
            pass
    assert (ended["state"], ended["frames"], ended["lost"], ended["message"]) == ("stopped", 5, 0, None)
    with recording.open_recording(tmp_path / "take.npy") as take:
        assert [int(frame.array[0, 0]) for frame in take] == [0, 1, 2, 3, 4]


def test_a_recording_never_holds_the_producer_back(serve, camera, tmp_path):
    served = serve([camera.name], allow_record=tmp_path)
    page = served.page(camera.name)
    with camera.producer():
        page.say("record", path="take.npy")
        page.message("recording")
        policies = {one.label: one.policy for one in camera.stats().consumers}
        assert policies["shmring record"] == "lossy"


def test_a_recording_outlives_its_page_and_ends_with_the_server(serve, camera, tmp_path):
    served = serve([camera.name], allow_record=tmp_path)
    page = served.page(camera.name)
    with camera.producer() as out:
        page.say("record", path="take.npy")
        page.message("recording")
        page.socket.close()
        out.put(np.zeros((20, 24), "u1"))
        wait_until(lambda: served.view._recordings.status(camera.name)["frames"] == 1, "a frame is recorded")
        served.stop()
    with recording.open_recording(tmp_path / "take.npy") as take:
        assert len(take) == 1


def test_pages_write_nothing_by_default(serve, camera, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    served = serve([camera.name])
    assert served.rings().next()["record"] is False
    page = served.page(camera.name)
    page.say("record", path="take.npy")
    refused = page.message("recording")
    assert (refused["state"], list(tmp_path.iterdir())) == ("refused", [])
    assert "--allow-record" in refused["message"]


@pytest.mark.parametrize(
    "path",
    [
        "../take.npy", "/tmp/take.npy", "a/take.npy", "..", ".", "", ".take.npy", "take.txt", "take",
        "take\n.npy", "take\x00.npy", "~/take.npy", None, 5, ["take.npy"], "x" * 300 + ".npy", "\ud800.npy",
    ],
)  # fmt: skip
def test_only_plain_names_in_the_folder(serve, camera, tmp_path, path):
    folder = tmp_path / "folder"
    folder.mkdir()
    page = serve([camera.name], allow_record=folder).page(camera.name)
    with camera.producer():
        page.say("record", path=path)
        refused = page.message("recording")
    assert refused["state"] == "refused"
    assert refused["message"]
    assert [one.name for one in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize("what", ["file", "link"])
def test_nothing_is_overwritten(serve, camera, tmp_path, what):
    elsewhere = tmp_path / "elsewhere"
    folder = tmp_path / "folder"
    folder.mkdir()
    if what == "file":
        (folder / "take.npy").write_bytes(b"mine")
    else:
        (folder / "take.npy").symlink_to(elsewhere)
    page = serve([camera.name], allow_record=folder).page(camera.name)
    with camera.producer():
        page.say("record", path="take.npy")
        refused = page.message("recording")
    assert refused["state"] == "refused"
    assert refused["message"] == "take.npy exists: choose another name"  # a page has no modes
    assert not elsewhere.exists()
    assert what == "link" or (folder / "take.npy").read_bytes() == b"mine"


def test_one_recording_of_a_ring_at_a_time(serve, camera, tmp_path):
    page = serve([camera.name], allow_record=tmp_path).page(camera.name)
    with camera.producer():
        page.say("record", path="a.npy")
        page.message("recording")
        page.say("record", path="b.npy")
        while (said := page.message("recording"))["state"] == "recording":
            pass
    assert said["state"] == "refused"
    assert not (tmp_path / "b.npy").exists()


def test_the_end_of_the_stream_ends_the_recording(serve, camera, tmp_path):
    page = serve([camera.name], allow_record=tmp_path).page(camera.name)
    with camera.producer() as out:
        page.say("record", path="take.npy")
        page.message("recording")
        out.put(np.zeros((20, 24), "u1"))
    while (said := page.message("recording"))["state"] == "recording":
        pass
    assert (said["state"], said["frames"]) == ("producer closed", 1)


def test_a_ring_that_is_not_there_is_not_recorded(serve, name, tmp_path):
    page = serve([name], allow_record=tmp_path).page(name)
    page.say("record", path="take.npy")
    assert name in page.message("recording")["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_format_whose_library_is_missing(serve, camera, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    page = serve([camera.name], allow_record=tmp_path).page(camera.name)
    with camera.producer():
        page.say("record", path="take.h5")
        refused = page.message("recording")
    assert refused["state"] == "refused"
    assert "pip install" in refused["message"]


def test_a_folder_that_is_not_there(tmp_path):
    import shmring.view

    with pytest.raises(FileNotFoundError):
        shmring.view.app(allow_record=tmp_path / "missing")


def test_a_folder_that_is_a_file(tmp_path):
    import shmring.view

    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        shmring.view.app(allow_record=tmp_path / "file")
