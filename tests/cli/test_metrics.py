"""`shmring metrics`, and reports through logging."""

from __future__ import annotations

import gc
import getpass
import logging
import os
import signal
import urllib.request

import pytest

import shmring
from shmring._log import report_to_log
from support import peers
from support.blocks import block_file
from support.frames import WORDS, check, drain, feed
from support.waiting import PATIENCE, unclosed, wait_until


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values (ring's last)."""
    parser = pytest.importorskip("prometheus_client.parser")
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            ring = labels.pop("ring", "")
            found[(sample.name, *labels.values(), ring)] = sample.value
    return found


@pytest.fixture
def metrics(capsys):
    """Runs the command in this process; its exit code, stdout and stderr."""
    pytest.importorskip("prometheus_client")
    from shmring._cli import app

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = app.run(["metrics", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_spare_slots_and_what_a_lossy_consumer_may_hold(metrics, make):
    ring = make(slots=4, spares=2)
    with ring.producer() as out, ring.consumer(lossless=False, label="viewer", max_held=3) as viewer:
        feed(out, 1)
        frame = viewer.get(0)
        feed(out, 4)
        found = samples(metrics(ring.name)[1])
        frame.release()
    assert found["shmring_spare_slots", ring.name] == 2
    assert found["shmring_spare_slots_in_use", ring.name] == 1
    (most,) = [value for key, value in found.items() if key[0] == "shmring_consumer_max_held_slots"]
    assert most == 3


def test_counters(metrics, make):
    ring = make(slots=4)
    with ring.producer(on_full="drop") as out, ring.consumer(label="recorder") as consumer:
        feed(out, 6)
        frame = consumer.get()
        code, text, err = metrics(ring.name, "--prometheus")
        frame.release()
    assert (code, err) == (0, "")
    found = samples(text)
    assert found["shmring_published_frames_total", ring.name] == 4
    assert found["shmring_dropped_frames_total", ring.name] == 2
    assert found["shmring_slots", ring.name] == 4
    assert found["shmring_frame_bytes", ring.name] == ring.frame_nbytes
    assert found["shmring_live", ring.name] == 1
    assert found["shmring_producer_live", ring.name] == 1
    assert found["shmring_producer_died", ring.name] == 0
    place = ("0", "recorder", "lossless", "", ring.name)
    values = {
        name: value
        for (name, *labels), value in found.items()
        if name.startswith("shmring_consumer_") and set(labels) == set(place)
    }
    assert values["shmring_consumer_lag_frames"] == 3
    assert values["shmring_consumer_held_frames"] == 1
    assert values["shmring_consumer_delivered_frames_total"] == 1
    assert values["shmring_consumer_alive"] == 1
    assert found["shmring_blocks", "live", ""] == 1
    assert found["shmring_shm_size_bytes", ""] > 0
    assert found["shmring_spare_slots", ring.name] == found["shmring_spare_slots_in_use", ring.name] == 0
    assert not {"shmring_consumer_max_held_slots", "shmring_consumer_redelivered_frames_total"} & set(values)
    assert not [key for key in found if key[0].startswith("shmring_group_")]
    (words,) = (set(key[1:]) for key in found if key[0] == "shmring_ring_info")
    assert words == {"uint64", str(WORDS), getpass.getuser(), ring.name}


def test_groups(metrics, make, peer):
    """Samples of each group, and of each member with its group."""
    ring = make(slots=8)
    other = peer(ring)
    other.run(peers.open_consumer, label="m0", group="a")
    with (
        ring.producer() as out,
        ring.consumer(group="a", label="m1") as member,
        ring.consumer(group='b"', at_most_once=True),
    ):
        feed(out, 6)
        other.run(peers.hold, 2)
        frame = member.get(0)
        found = samples(metrics(ring.name)[1])
        assert found["shmring_group_members", "a", ring.name] == 2
        assert found["shmring_group_lag_frames", "a", ring.name] == 3
        assert found["shmring_group_held_frames", "a", ring.name] == 3
        assert found["shmring_group_lag_frames", 'b"', ring.name] == 6
        frame.release()
        other.kill()
        assert sorted(check(member.get(PATIENCE)) for _ in range(5)) == [0, 1, 3, 4, 5]
        found = samples(metrics(ring.name)[1])
    assert found["shmring_group_members", "a", ring.name] == 1
    assert found["shmring_group_redelivered_frames", "a", ring.name] == 2
    assert found["shmring_group_lost_frames_total", "a", ring.name] == 0
    assert found["shmring_group_lost_frames_total", 'b"', ring.name] == 0
    labels = ("m1", "member", "a")
    (taken,) = [
        value
        for (name, *words), value in found.items()
        if name == "shmring_consumer_redelivered_frames_total" and set(labels) <= set(words)
    ]
    assert taken == 2


def test_all_rings(metrics, make):
    made = {make().name for _ in range(3)}
    code, text, _ = metrics()
    assert code == 0
    assert made <= {key[-1] for key in samples(text) if key[0] == "shmring_live"}


def test_labels_of_others_are_escaped(metrics, make):
    ring = make()
    with ring.consumer(label='a"b\\c\nd'):
        code, text, _ = metrics(ring.name)
    assert code == 0
    labels = {key[1:] for key in samples(text) if key[0] == "shmring_consumer_alive"}
    assert any('a"b\\c\\nd' in key for key in labels)


def test_a_ring_that_is_not_there(metrics, name, make):
    code, out, err = metrics(make().name, name)
    assert (code, out) == (3, "")
    assert name in err


def test_a_block_that_is_no_ring(metrics, name):
    path = block_file(name)
    path.write_bytes(b"foreign" * 100)
    try:
        assert metrics(name)[0] == 1
    finally:
        path.unlink()


@pytest.mark.slow
def test_http(command, make, name):
    """Each scrape looks again; a ring that is not there is 0."""
    pytest.importorskip("prometheus_client")
    ring = make()
    served = command("metrics", ring.name, name, "--listen", "127.0.0.1:0", text=True)
    url = served.stderr.readline().split()[-1]

    def scrape() -> dict[tuple[str, ...], float]:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            return samples(answer.read().decode())

    found = scrape()
    assert (found["shmring_live", ring.name], found["shmring_live", name]) == (1, 0)
    make(name)
    with ring.producer() as out:
        feed(out, 3)
        found = scrape()
    assert found["shmring_live", name] == 1
    assert found["shmring_published_frames_total", ring.name] == 3
    place = url.rpartition("/")[0].removeprefix("http://")
    taken = command("metrics", ring.name, name, "--listen", place, text=True)
    _, err = taken.communicate(timeout=PATIENCE)
    assert taken.returncode == 1
    assert "in use" in err
    assert err.count("\n") == 1
    served.send_signal(signal.SIGINT)
    assert served.wait(PATIENCE) == 130
    assert served.stderr.read() == ""


# ---- logging


def test_report(make, caplog):
    ring = make(slots=4)
    caplog.set_level("INFO", "shmring")
    with ring.producer() as out, ring.consumer(label="recorder"), report_to_log(ring, interval=3600):
        feed(out, 3)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"ring {ring.name}: 3 frames published (")
    assert "recorder (pid" in record.getMessage()
    assert "lag 3 lost 0" in record.getMessage()
    assert record.ring.published == 3


def test_report_warns(make, caplog, peer):
    ring = make(slots=4)
    other = peer(ring)
    other.run(peers.open_consumer, label="gone")
    with ring.producer(on_full="drop") as out, caplog.at_level("INFO", "shmring"):
        with report_to_log(ring, interval=3600):
            feed(out, 6)
            other.kill()
        message = caplog.records[-1].getMessage()
        assert caplog.records[-1].levelno == logging.WARNING
        assert "the producer dropped 2 frames" in message
        assert f"gone (pid {other.pid}) died" in message
        caplog.clear()
        with report_to_log(ring, interval=3600):  # said once
            pass
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_report_of_losses_and_a_dead_producer(make, caplog, peer):
    ring = make(slots=4)
    other = peer(ring)
    other.run(peers.open_producer, 1)
    with ring.consumer(lossless=False, label="viewer") as viewer, caplog.at_level("INFO", "shmring"):
        viewer.get().release()
        with report_to_log(ring, interval=3600):
            other.run(peers.put, 20)
            viewer.get().release()
            other.kill()
    message = caplog.records[-1].getMessage()
    assert f"viewer (pid {os.getpid()}) lost 16 frames" in message
    assert f"the producer (pid {other.pid}) died" in message


def test_report_of_a_group(make, caplog, peer):
    """What a group lost is a trouble of its own: none of its members lost it."""
    ring = make(slots=8)
    other = peer(ring)
    other.run(peers.open_consumer, label="gone", group="g", at_most_once=True)
    with (
        ring.producer() as out,
        ring.consumer(label="m1", group="g", at_most_once=True) as member,
        caplog.at_level("INFO", "shmring"),
    ):
        feed(out, 4)
        other.run(peers.hold, 3)
        with report_to_log(ring, interval=3600):
            other.kill()
            drain(member)
        message = caplog.records[-1].getMessage()
        assert caplog.records[-1].levelno == logging.WARNING
        assert f"m1 (pid {os.getpid()}, member of group g) lag 0 lost 0" in message
        assert message.endswith("group g lost 3 frames of members that died")
        caplog.clear()
        with report_to_log(ring, interval=3600):  # said once
            pass
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_reports_come_at_an_interval(make, caplog):
    ring = make()
    with caplog.at_level("INFO", "shmring"), report_to_log(ring, interval=0.01):
        wait_until(lambda: len(caplog.records) >= 3)


def test_reports_end_with_the_ring(make):
    ring = make()
    report = report_to_log(ring, interval=0.01)
    ring.unlink()
    ring.close()
    report._thread.join(PATIENCE)
    assert not report._thread.is_alive()
    report.close()


def test_reports_do_not_keep_a_forgotten_ring(name):
    ring = shmring.Ring.create(name, shape=(), dtype="u1", slots=2)
    ring.unlink()
    report = report_to_log(ring, interval=0.01)
    with unclosed("Ring"):
        del ring
        gc.collect()
        report._thread.join(PATIENCE)
    assert not report._thread.is_alive()


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_interval_that_cannot_be(make, interval):
    with pytest.raises(ValueError, match="interval must be a number above 0"):
        report_to_log(make(), interval)
