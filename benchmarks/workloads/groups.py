"""What a member of a group costs, and how several members share frames that take long."""

import time
from multiprocessing.connection import Connection

import numpy as np

import shmring
from benchmarks.harness.cells import OURS, Cell
from benchmarks.harness.isolation import isolated, unique_name
from benchmarks.harness.roles import Role, now
from benchmarks.harness.runs import ready
from benchmarks.workloads import Effort
from benchmarks.workloads import calls as one_process
from benchmarks.workloads.common import RATE

PART = "groups"
GETS = "get with release in one process, 64 B"
SLOTS = 1024
TAKES = 1e-3  # seconds
MEMBERS = (1, 2, 4)


def cells(effort: Effort) -> list[Cell]:
    gets = Cell(
        PART,
        GETS,
        "shmring",
        OURS,
        lambda: one_process.isolated_gets(64, SLOTS, effort.seconds),
        dict.fromkeys(one_process.TAKERS, "ns"),
        "a ring for each, in turns",
    )
    return [gets, *(shared(members, effort) for members in MEMBERS)]


def case(members: int) -> str:
    return f"frames that take 1 ms, {members} member{'s' if members > 1 else ''}"


def shared(members: int, effort: Effort) -> Cell:
    def measure() -> dict[str, float]:
        return dict(isolated(lambda: share(members, max(8, round(effort.seconds / TAKES)) * members)))

    return Cell(PART, case(members), "shmring", OURS, measure, RATE, "members sleep 1 ms for each frame")


def share(members: int, count: int) -> dict[str, float]:
    """Frames per second that so many members work on together."""
    with shmring.Ring.create(unique_name(), shape=(8,), dtype="u8", slots=64) as ring:
        roles = [ready(Role(work, ring, core=None)) for _ in range(members)]
        frame = np.zeros(8, "u8")
        with ring.producer() as out:
            began = now()
            for _ in range(count):
                out.put(frame)
        results = Role.answers(roles)
        for role in roles:
            role.end()
    done = sum(came for _, came in results)
    if done != count:
        raise RuntimeError(f"{done} of {count} frames were worked on")
    return {"frames": count / (max(ended for ended, _ in results) - began) * 1e9}


def work(pipe: Connection, ring: shmring.Ring) -> None:
    """Take frames until the stream ends; answer when the last one was done, and how many they were."""
    ended, count = 0, 0
    with ring.consumer(group="workers") as frames:
        pipe.send("ready")
        for frame in frames:
            with frame:
                time.sleep(TAKES)
            ended, count = now(), count + 1
    pipe.send((ended, count))
    pipe.recv()
