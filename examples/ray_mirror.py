"""A camera on node A, a recorder on node B, a lossy viewer on node C of a Ray cluster.

The three nodes run on this machine; on a real cluster, leave out `start_cluster` and call ray.init("auto").

    python ray_mirror.py
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import shmring

try:
    import ray
    from ray.cluster_utils import Cluster
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from shmring.ray import mirror
except ImportError as error:
    print(f"not run: {error}")
    sys.exit(0)

FRAMES = 150


def start_cluster() -> Any:
    """Three nodes; each has little memory for Ray's own objects, which a mirror does not use."""
    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**node)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    return cluster


def record(name: str, path: str) -> str:
    """On node B: every frame into a file."""
    from shmring.recording import record

    summary = record(name, path)
    return f"recorder: {summary.frames} frames, {summary.lost} lost, {summary.ended}"


def view(name: str) -> str:
    """On node C: the newest frame, whenever it has time for one."""
    seen = 0
    with shmring.Ring.attach(name) as ring, ring.consumer(lossless=False, label="viewer") as frames:
        try:
            while True:
                with frames.latest(timeout=30) as frame:
                    seen += int(frame.array[0, 0] == frame.seq % 256)
                time.sleep(0.02)
        except shmring.RingClosed:
            return f"viewer: saw {seen} frames, passed over {frames.skipped}"


def main() -> int:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_agent_register_timeout_ms="120000")
    cluster = start_cluster()
    here = ray.get_runtime_context().get_node_id()
    b, c = [node.node_id for node in cluster.list_all_nodes() if node.node_id != here]

    def run_on(node: str, work: Any, *arguments: str) -> Any:
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(work).options(num_cpus=0, scheduling_strategy=where).remote(*arguments)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "take.npy"
        with (
            shmring.Ring.create(shape=(480, 640), dtype="u1", slots=16) as ring,
            mirror(ring, lossless={b: True, c: False}) as copies,
        ):
            results = [run_on(b, record, copies.names[b], str(path)), run_on(c, view, copies.names[c])]
            for name in copies.names.values():
                with shmring.Ring.attach(name, readonly=True) as far:
                    while not far.stats().consumers:
                        time.sleep(0.01)
            with ring.producer() as out:
                for number in range(FRAMES):
                    out.put(np.full(ring.shape, number % 256, "u1"))
                    time.sleep(0.005)
            stats = copies.wait(timeout=60)
            print(*ray.get(results), sep="\n")
        with shmring.recording.open_recording(path) as take:
            complete = take.seqs.tolist() == list(range(FRAMES)) and int(take.array[-1, 0, 0]) == FRAMES - 1
    for one in stats.sinks:
        policy = "lossless" if one.lossless else "lossy"
        print(f"{policy} mirror: {one.published} frames, {one.lost} lost, {one.state}")
    ray.shutdown()
    cluster.shutdown()
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
