"""The adapters: shmring, and one for each peer. `available` finds the peers that are installed."""

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
    """Why pip could not install peers into this environment: distribution -> its error."""
    path = Path(sys.prefix) / "failed.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def available(wanted: list[str] | None = None) -> tuple[list[Transport], list[dict[str, str]]]:
    """The transports whose packages are installed; name and reason for each of the others."""
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
