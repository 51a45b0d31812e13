"""A cluster of Ray with three nodes on this machine. They share /dev/shm, so names carry the node."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.blocks import SHM
from support.processes import environment
from support.waiting import settle, wait_until

PATIENT = {"RAY_agent_register_timeout_ms": "120000", "RAY_raylet_start_wait_time_s": "120"}
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
# Ray finds a dead node after 5 looks in vain, 3 s apart; one that answers late is not taken for dead.
HEAD = {**NODE, "include_dashboard": False, "_system_config": {"health_check_period_ms": 500}}


def rings_left() -> set[str]:
    """What is in /dev/shm but for Ray's own files."""
    return {name for name in os.listdir(SHM) if not re.match(r"plasma|sem\.|ray", name)}


@pytest.fixture(autouse=True)
def nothing_left_behind(watchdog):
    """No ring outlives a test. Ray's own processes and descriptors come and go as it likes."""
    before = rings_left()
    yield
    deadline = time.monotonic() + 10
    while (left := rings_left() - before) and time.monotonic() < deadline:
        settle()
        time.sleep(0.02)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="package")
def cluster():
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {**environment(), "RAY_USAGE_STATS_ENABLED": "0", **PATIENT}.items():
            patch.setenv(variable, value)
        made = Cluster(initialize_head=True, head_node_args=HEAD)
        for _ in range(2):
            made.add_node(**NODE)
        made.connect(namespace="shmring")
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def victim(cluster):
    """A node to kill, with `cluster.remove_node`."""
    made = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    yield made
    if made in cluster.list_all_nodes():
        cluster.remove_node(made)


@pytest.fixture
def others(cluster) -> list[str]:
    """The ids of the nodes that the test itself is not on."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return [node.node_id for node in cluster.list_all_nodes() if node.node_id != here]


@pytest.fixture
def on(cluster):
    """`on(node)`: the options of an actor or a task that runs there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def options(node: str) -> dict:
        return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}

    return options


@pytest.fixture
def words_of(cluster):
    """`words_of(pid)`: what a worker wrote to its stderr, which Ray collects and shows to the driver."""
    folder = Path(cluster.head_node.get_logs_dir_path())

    def read(pid: int) -> str:
        return "".join(file.read_text() for file in folder.glob(f"worker-*-{pid}.err"))

    return read


NODE_COMMAND = """mount -t tmpfs -o mode=1777,size=16m tmpfs /dev/shm || exit 77
exec "$0" -m ray.scripts.scripts start --address="$1" --num-cpus=1 --object-store-memory=80000000 --block
"""


@pytest.fixture
def far_node(cluster):
    """The id of a node with a /dev/shm of its own, as another machine has: of 16 MiB."""
    import ray

    before = {one["NodeID"] for one in ray.nodes()}
    command = ["unshare", "--mount", "sh", "-c", NODE_COMMAND, sys.executable, cluster.address]
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {**environment(), **PATIENT}.items():
            patch.setenv(variable, value)
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except FileNotFoundError:
            pytest.skip("needs unshare")

    def new_node() -> str:
        if process.poll() is not None:
            pytest.skip("may not mount a file system")
        return next((one["NodeID"] for one in ray.nodes() if one["NodeID"] not in before), "")

    yield wait_until(new_node, "the node is there", 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
