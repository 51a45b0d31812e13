"""What a page is sent, and when: one frame at a time, and a word for whatever becomes of the ring."""

import contextlib
import os
import re
import socket

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra view")

import shmring
from shmring import attrs
from shmring.view import _hub, _images
from support.blocks import fresh_name
from support.waiting import wait_until

SHAPE = (20, 24)
PICTURE = attrs.describe(axes=["y", "x"])


def frame(value: int) -> np.ndarray:
    return np.full(SHAPE, value, "u1")


def reader_of(ring):
    """What the ring knows of the server; None if it has no place."""
    found = [one for one in ring.stats().consumers if one.label == "shmring view"]
    return found[0] if found else None


@pytest.fixture
def camera(make):
    return make(shape=SHAPE, dtype="u1")


# ---- one frame at a time


def test_a_page_gets_the_newest_frame_when_it_has_drawn_the_last(serve, camera):
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name, width=100)
        header, payload = page.frame(ack=False)
        assert (header["seq"], header["skipped"], payload[0, 0]) == (0, 0, 0)
        for value in range(1, 6):
            out.put(frame(value))
        assert page.silent()
        assert page.silent()
        page.say("ack", seq=header["seq"])
        header, payload = page.frame()
        assert (header["seq"], header["skipped"], payload[0, 0]) == (5, 4, 5)


def test_a_wrong_acknowledgement_changes_nothing(serve, camera):
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name, width=100)
        page.frame(ack=False)
        out.put(frame(1))
        for seq in (1, -1, None, "0", [0], True, 0.5):
            page.say("ack", seq=seq)
        page.say("ack")
        assert page.silent()
        assert page.silent()


def test_nothing_is_sent_before_a_page_says_what_it_wants(serve, camera):
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name)
        assert page.message("schema")["shape"] == list(SHAPE)
        assert page.silent()
        page.want()
        assert page.frame()[0]["seq"] == 0


@pytest.mark.event("a page of `shmring view` is slow, frozen or hidden")
def test_the_reader_holds_no_slot_and_reads_nothing_for_a_page_that_does_not_draw(serve, camera):
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name, width=100)
        page.frame(ack=False)
        reader = reader_of(camera)
        assert (reader.policy, reader.held) == ("lossy", 0)
        for value in range(20):
            out.put(frame(value))
            page.silent()
        after = reader_of(camera)
        assert (after.delivered, after.held) == (reader.delivered, 0)


def test_one_reader_serves_all_pages(serve, camera):
    served = serve([camera.name])
    with camera.producer() as out:
        out.put(frame(0))
        pages = [served.page(camera.name, width=100) for _ in range(10)]
        for page in pages:
            assert page.frame()[0]["seq"] == 0
        out.put(frame(1))
        for page in pages:
            assert page.frame()[0]["seq"] == 1
        stats = camera.stats()
        assert len(stats.consumers) == 1
        assert stats.consumers[0].delivered <= 2


def test_a_picture_is_made_once_for_pages_that_skipped_other_frames(serve, camera, monkeypatch):
    made, picture_of = [], _images.picture_of
    monkeypatch.setattr(
        _images, "picture_of", lambda array, *rest: made.append(int(array[0, 0])) or picture_of(array, *rest)
    )
    served = serve([camera.name])
    with camera.producer() as out:
        out.put(frame(0))
        slow, quick = served.page(camera.name, width=100), served.page(camera.name, width=100)
        slow.frame(ack=False)
        quick.frame()
        for value in (1, 2):
            out.put(frame(value))
            assert quick.frame()[0]["skipped"] == 0
        slow.say("ack", seq=0)
        header, _ = slow.frame()
        assert (header["seq"], header["skipped"]) == (2, 1)
        assert made == [0, 1, 2]


def test_pages_that_are_ready_one_after_the_other_share_what_was_just_read(serve, camera, monkeypatch):
    monkeypatch.setattr(_hub, "SHORTEST", 3600)
    served = serve([camera.name])
    with camera.producer() as out:
        out.put(frame(0))
        served.page(camera.name, width=100).frame()
        out.put(frame(1))
        assert served.page(camera.name, width=100).frame()[0]["seq"] == 0


def test_a_page_that_is_slow_does_not_keep_another_one_waiting(serve, camera):
    served = serve([camera.name])
    with camera.producer() as out:
        out.put(frame(0))
        slow, quick = served.page(camera.name, width=100), served.page(camera.name, width=100)
        slow.frame(ack=False)
        quick.frame()
        for value in range(1, 6):
            out.put(frame(value))
            assert quick.frame()[0]["seq"] == value
        slow.say("ack", seq=0)
        assert slow.frame()[0]["skipped"] == 4


def test_the_place_is_free_when_the_last_page_has_left(serve, camera):
    served = serve([camera.name])
    with camera.producer() as out:
        out.put(frame(0))
        page = served.page(camera.name, width=100)
        page.frame()
        assert reader_of(camera)
        page.socket.close()
        wait_until(lambda: reader_of(camera) is None, "the reader has left")
        assert served.page(camera.name, width=100).frame()[0]["seq"] == 0


def test_a_page_that_comes_back_begins_with_the_newest_frame(serve, camera):
    """And not with the one that was on show when the last page left."""
    served = serve([camera.name])
    with camera.producer() as out:
        out.put(frame(0))
        page = served.page(camera.name, width=100)
        page.frame()
        page.socket.close()
        wait_until(lambda: reader_of(camera) is None, "the reader has left")
        for value in range(1, 20):
            out.put(frame(value))
        page = served.page(camera.name, width=100)
        assert page.frame()[0]["seq"] == 19
        out.put(frame(20))
        header, _ = page.frame()
        assert (header["seq"], header["skipped"]) == (20, 0)


def test_a_ring_that_goes_while_nobody_looks(serve, name):
    served = serve([name])
    with shmring.Ring.create(name, shape=SHAPE, dtype="u1", slots=4) as ring, ring.producer() as out:
        out.put(frame(0))
        page = served.page(name, width=100)
        page.frame()
        page.socket.close()
        wait_until(lambda: reader_of(ring) is None, "the reader has left")
    end = served.page(name, width=100).message("end")
    assert (end["state"], end["message"]) == (
        "missing",
        f"ring {name!r} is gone: the next one of that name is shown when it comes",
    )


def test_a_hundred_pages(serve, camera):
    served = serve([camera.name])
    with camera.producer() as out:
        out.put(frame(1))
        pages = [served.page(camera.name, width=100) for _ in range(100)]
        for page in pages:
            page.frame()
        out.put(frame(2))
        for page in pages:
            assert page.frame()[1][0, 0] == 2
    for page in pages:
        assert page.message("end")["state"] == "closed"


@pytest.mark.event("a page of `shmring view` is slow, frozen or hidden")
def test_a_page_that_does_not_even_read_is_no_obstacle(serve, make):
    """Its socket is full: neither other pages nor the end of the server wait for it."""
    ring = make(shape=(2000, 2000), dtype="u1", slots=4)
    served = serve([ring.name])
    with ring.producer() as out:
        out.put(np.zeros((2000, 2000), "u1"))
        frozen = served.page(ring.name)
        raw = frozen.socket.socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        frozen.want()
        quick = served.page(ring.name, width=100, height=100)
        for seq in range(3):
            assert quick.frame()[0]["seq"] == seq
            out.put(np.full((2000, 2000), seq, "u1"))
        served.stop()


# ---- pause and step


def test_pause_step_and_resume(serve, camera):
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name, width=100)
        page.frame()
        page.say("pause")
        page.silent()
        out.put(frame(1))
        out.put(frame(2))
        assert page.silent()
        page.say("step")
        header, payload = page.frame()
        assert (header["seq"], header["skipped"], payload[0, 0]) == (2, 1, 2)
        out.put(frame(3))
        assert page.silent()
        page.say("resume")
        assert page.frame()[0]["seq"] == 3


def test_a_step_waits_for_the_next_frame(serve, camera):
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name, width=100)
        page.frame()
        page.say("step")
        assert page.silent()
        out.put(frame(1))
        assert page.frame()[0]["seq"] == 1
        out.put(frame(2))
        assert page.silent()


@pytest.mark.parametrize("state", ["paused", "stalled", "ended"])
def test_another_view_of_the_frame_on_show(serve, camera, state):
    with camera.producer() as out:
        out.put(np.arange(480, dtype="u2").astype("u1").reshape(SHAPE))
        page = serve([camera.name]).page(camera.name, width=100)
        whole = page.frame()[1]
        if state == "paused":
            page.say("pause")
            page.silent()
            out.put(frame(9))
        if state == "ended":
            out.close()
            page.message("end")
        page.want(region=[2, 5, 3, 9])
        header, payload = page.frame()
        assert (header["seq"], header["skipped"], header["region"]) == (0, 0, [2, 5, 3, 9])
        np.testing.assert_array_equal(payload, whole[2:5, 3:9])


def test_a_limit_of_frames_per_second_is_kept(serve, camera):
    """Of one in 1000 seconds, the second frame does not come at all."""
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name, rate=0.001)
        page.frame()
        out.put(frame(1))
        assert page.silent()
        page.want(rate=1000)
        assert page.frame()[0]["seq"] == 0
        assert page.frame()[0]["seq"] == 1


# ---- what becomes of a ring


@pytest.mark.event("the ring that a page shows closes, dies, is cut or replaced")
def test_the_last_frame_comes_before_the_end(serve, camera):
    with camera.producer() as out:
        out.put(frame(0))
        page = serve([camera.name]).page(camera.name, width=100)
        page.frame(ack=False)
        out.put(frame(1))
    end = page.message("end")
    assert end["state"] == "closed"
    assert end["message"] == f"the producer of ring {camera.name!r} closed it after 2 frames"
    page.say("ack", seq=0)
    assert page.frame()[1][0, 0] == 1


def test_a_producer_that_fails_is_shown_with_its_words(serve, camera):
    out = camera.producer()
    out.put(frame(0))
    page = serve([camera.name]).page(camera.name, width=100)
    page.frame()
    with contextlib.suppress(RuntimeError), out:
        raise RuntimeError("the lens\x1b[31m fell off")
    end = page.message("end")
    assert end["state"] == "failed"
    begin, _, words = end["message"].partition(" failed after 1 frame: ")
    assert begin.startswith(f"the producer of ring {camera.name!r} (pid {os.getpid()}")
    assert words == "RuntimeError: the lens\\x1b[31m fell off"


@pytest.mark.event("the ring that a page shows closes, dies, is cut or replaced")
def test_a_producer_that_is_killed(serve, camera, peer):
    other = peer(camera)
    other.run(publish_in, camera.name)
    page = serve([camera.name]).page(camera.name, width=100)
    assert page.frame()[1][0, 0] == 7
    other.kill()
    end = page.message("end")
    assert end["state"] == "died"
    assert re.fullmatch(
        rf"the producer of ring {camera.name!r} \(pid \d+\) died after 1 frame", end["message"]
    )


def publish_in(here, name):
    global kept
    ring = shmring.Ring.attach(name)
    kept = ring, ring.producer()
    kept[1].put(np.full(ring.shape, 7, ring.dtype))


def test_the_next_producer_of_a_ring_is_shown(serve, camera):
    page = serve([camera.name]).page(camera.name, width=100)
    assert page.message("schema")["state"] == "none"
    assert page.message("end")["state"] == "none"
    with camera.producer() as out:
        out.put(frame(1))
        assert page.message("schema")["state"] == "live"
        assert page._kept == []  # nothing was replaced
        assert page.frame()[1][0, 0] == 1
    assert page.message("end")["state"] == "closed"
    with camera.producer() as out:
        page.message("replaced")
        out.put(frame(2))
        assert page.frame()[1][0, 0] == 2


@pytest.mark.event("the ring that a page shows closes, dies, is cut or replaced")
def test_the_next_ring_of_that_name_is_shown_though_its_frames_are_others(serve, name):
    page = serve([name]).page(name, width=100)
    assert page.message("end")["state"] == "missing"
    for shape, dtype in (SHAPE, "u1"), ((30, 40), "f4"):
        with shmring.Ring.create(name, shape=shape, dtype=dtype, slots=4) as ring, ring.producer() as out:
            assert page.message("schema")["shape"] == list(shape)
            out.put(np.ones(shape, dtype))
            assert page.frame()[1].shape == shape
        assert page.message("end")["state"] == "closed"


@pytest.mark.event("the ring that a page shows closes, dies, is cut or replaced")
def test_a_page_is_not_in_the_way_of_the_next_ring(serve, name):
    """Not even one that is paused, and never draws what it got."""
    served = serve([name])
    with shmring.Ring.create(name, shape=SHAPE, dtype="u1", slots=4) as ring, ring.producer() as out:
        out.put(frame(0))
        page = served.page(name, width=100)
        page.frame(ack=False)
        page.say("pause")
    assert page.message("end")["state"] == "closed"
    with shmring.Ring.create(name, shape=(3,), dtype="f4", slots=4) as ring:
        assert ring.shape == (3,)


def test_a_stale_ring_shows_its_last_frame(serve, name):
    with shmring.Ring.create(name, shape=SHAPE, dtype="u1", slots=4) as ring, ring.producer() as out:
        out.put(frame(3))
        ring._creator = False  # it stays
    try:
        page = serve([name]).page(name, width=100)
        assert page.frame()[1][0, 0] == 3
        assert page.message("end")["state"] == "stale"
    finally:
        with contextlib.suppress(shmring.RingNotFound):
            shmring.unlink(name)


def test_a_ring_without_a_place_is_observed(serve, make):
    ring = make(shape=SHAPE, dtype="u1", consumers=1)
    with ring.consumer(), ring.producer() as out:
        out.put(frame(0))
        page = serve([ring.name]).page(ring.name, width=100)
        assert page.frame()[1][0, 0] == 0
        assert len(ring.stats().consumers) == 1
        out.put(frame(1))
        assert page.frame()[1][0, 0] == 1


def test_a_damaged_block_is_shown_as_such(serve, name):
    with open(f"/dev/shm/{name}", "wb") as file:
        file.write(b"x" * 8192)
    try:
        served = serve([name])
        assert served.page(name, width=100).message("end")["state"] == "foreign"
        assert served.rings().next()["rings"][0]["state"] == "foreign"
    finally:
        os.unlink(f"/dev/shm/{name}")


# ---- names


@pytest.mark.parametrize(
    "odd", ["a b", "ä€", "100%25", "a&name=b", "+", "<b>", "\x07", "\udcff", "a#b?c", "'\""]
)
def test_odd_names(serve, make, odd):
    ring = make(f"{fresh_name()}{odd}", shape=SHAPE, dtype="u1")
    served = serve()
    with ring.producer() as out:
        out.put(frame(4))
        found = [one for one in served.rings().next()["rings"] if one["id"].startswith(ring.name[:20])]
        assert len(found) == 1
        assert found[0]["name"].isprintable()
        page = served.page(found[0]["id"], width=100)
        client = page.message("schema")["client"]
        assert page.frame()[1][0, 0] == 4
        address = f"/snapshot.npy?name={found[0]['id']}&client={client}"
        assert served.get(address, served.bearer)[0] == 200


@pytest.mark.parametrize("identifier", ["", "other", "..", "%2e%2e", "a/b", "a%2fb", "%00", "x" * 300])
def test_what_is_not_shown_here(serve, camera, identifier):
    page = serve([camera.name]).page(identifier)
    assert page.next()["type"] == "error"


@pytest.mark.parametrize("identifier", ["..", "%2e%2e", "a/b", "a%2fb", "%00", "x" * 300])
def test_what_can_be_no_ring(serve, identifier):
    assert serve().page(identifier).next()["type"] == "error"


def test_only_the_rings_that_were_named_are_listed(serve, make, name):
    ring = make(shape=SHAPE, dtype="u1")
    make(shape=SHAPE, dtype="u1")
    found = serve([ring.name, name]).rings().next()
    assert [one["id"] for one in found["rings"]] == [ring.name, name]
    assert [one["state"] for one in found["rings"]] == ["none", "missing"]


def test_names_that_no_ring_can_have(name):
    import shmring.view

    with pytest.raises(ValueError, match="slash"):
        shmring.view.app(["a/b"])
    with pytest.raises(TypeError):
        shmring.view.app("camera")


# ---- the list of rings


def test_the_list_says_what_ls_says(serve, make):
    ring = make(shape=SHAPE, dtype=">u2", attrs={"unit": "V", "odd": {"a": [None]}}, meta="f8")
    with ring.producer() as out, ring.consumer(label="analysis"):
        out.put(np.zeros(SHAPE, ">u2"))
        listed = serve([ring.name]).rings()
        found = listed.next()["rings"][0]
        listed.next()
    assert (found["state"], found["kind"], found["shape"], found["dtype"]) == (
        "live",
        "image",
        [20, 24],
        ">u2",
    )
    assert (found["frames"], found["slots"], found["meta"]) == (1, ring.slots, "<f8")
    assert found["producer"]["pid"] == os.getpid()
    assert [(one["label"], one["policy"], one["lag"]) for one in found["consumers"]] == [
        ("analysis", "lossless", 1)
    ]
    assert 0 < found["fill"] <= 1


# ---- rubbish


def closed(page, do=lambda: None) -> int:
    """The code that the server closes the connection with."""
    from websockets.exceptions import ConnectionClosed

    try:
        for _ in range(1000):
            do()
            page.next()
    except ConnectionClosed as error:
        return error.rcvd.code
    raise AssertionError("still open")


@pytest.mark.parametrize("path", ["/ws/rings", "/ws/ring?name={name}"])
def test_rubbish_is_answered_and_then_ends_the_connection(serve, camera, path):
    from support.viewing import Page

    page = Page(serve([camera.name]).connect(path.format(name=camera.name)))
    rubbish = [
        "",
        "x",
        "[]",
        "1",
        "{}",
        '{"type": 5}',
        '{"type": "nothing"}',
        "[" * 50000,
        '{"type": "\\ud800"}',
    ]
    for one in rubbish:
        page.socket.send(one)
        assert page.message("error")["message"]
    assert closed(page, lambda: page.socket.send("x")) == 1008


@pytest.mark.parametrize(
    "want",
    [
        {"width": 0}, {"width": -1}, {"width": "5"}, {"width": None}, {"width": 1e99}, {"height": True},
        {"region": [0, 1, 2]}, {"region": [5, 5, 0, 1]}, {"region": "all"}, {"region": [0, 1, 0, "x"]},
        {"region": [-1, 1, 0, 1]}, {"quality": 0}, {"quality": 96}, {"rate": 0}, {"rate": -1},
        {"mode": "film"}, {"mode": ["image"]}, {"channel": -1}, {"seconds": 0}, {"rotate": "left"},
        {"width": 10**400},
    ],
)  # fmt: skip
def test_a_wrong_want_is_answered(serve, camera, want):
    page = serve([camera.name]).page(camera.name)
    page.say("want", **want)
    assert page.message("error")["message"]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "pixel"}, {"type": "pixel", "y": "1", "x": 0}, {"type": "pixel", "y": None, "x": []},
        {"type": "profile"}, {"type": "profile", "from": [0], "to": [1, 2]},
        {"type": "profile", "from": [0, 0], "to": [1, "NaN"]}, {"type": "profile", "from": {}, "to": 5},
    ],
)  # fmt: skip
def test_a_wrong_question_is_answered(serve, camera, message):
    page = serve([camera.name]).page(camera.name)
    page.say(**message)
    assert page.message("error")["message"]


def test_questions_before_there_is_a_frame(serve, camera):
    page = serve([camera.name]).page(camera.name)
    page.say("pixel", y=0, x=0)
    assert page.message("pixel")["value"] is None
    page.say("profile", **{"from": [0, 0], "to": [1, 1]})
    assert page.message("profile")["values"] == []
    for word in "pause", "step", "resume", "record_stop":
        page.say(word)
    assert page.silent()


@pytest.mark.parametrize(("message", "code"), [(b"bytes", 1003), ("x" * 70000, 1009)])
def test_what_no_page_sends_ends_the_connection(serve, camera, message, code):
    page = serve([camera.name]).page(camera.name)
    page.socket.send(message)
    assert closed(page) == code
