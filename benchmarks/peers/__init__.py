"""The peers: one adapter each. `python -m benchmarks.peers` says which are there and installs them."""

import importlib
from importlib.util import find_spec

from benchmarks.transport import Transport

MODULES: list[str] = []


def available(wanted: list[str] | None = None) -> tuple[list[Transport], list[dict[str, str]]]:
    """Transports whose packages are there; names of and reasons for the others."""
    there: list[Transport] = []
    absent: list[dict[str, str]] = []
    for module in wanted or MODULES:
        adapter = importlib.import_module(f"benchmarks.peers.{module}")
        for transport in adapter.TRANSPORTS:
            missing = [name for name in transport.modules if find_spec(name) is None]
            if missing:
                absent.append({"name": transport.name, "error": f"not installed: {', '.join(missing)}"})
            else:
                there.append(transport)
    return there, absent
