"""The adapters: shmring, and one for each peer. `available` says which peers are there."""

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.harness.transport import Transport

MODULES = [
    "multiprocessing_", "membridge", "cloudtoid", "iceoryx2_", "kickmsg_", "pyzmq", "global_buffer_",
    "faster_fifo_", "arrayqueues_", "momentumx_", "mmbus_", "shm_ring_buffer_", "zenoh_", "torch_", "ray_",
]  # fmt: skip


def failures() -> dict[str, str]:
    """What pip said of the peers that it could not install into this environment."""
    path = Path(sys.prefix) / "failed.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def available(wanted: list[str] | None = None) -> tuple[list[Transport], list[dict[str, str]]]:
    """Transports whose packages are there; names of and reasons for the others."""
    there: list[Transport] = []
    absent: list[dict[str, str]] = []
    for module in wanted or MODULES:
        adapter = importlib.import_module(f"benchmarks.adapters.{module}")
        for transport in adapter.TRANSPORTS:
            missing = [name for name in transport.modules if find_spec(name) is None]
            if missing:
                error = failures().get(transport.package or "", f"not installed: {', '.join(missing)}")
                absent.append({"name": transport.name, "error": error})
            else:
                there.append(transport)
    return there, absent
