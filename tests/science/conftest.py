"""What the tests of instruments' libraries share: servers of their own, on the loopback interface."""

import pytest

from support import convention


@pytest.fixture(autouse=True)
def attrs_by_the_convention():
    """Of every ring that an adapter creates, and of those that the tests do."""
    with convention.kept():
        yield


@pytest.fixture
def loopback(monkeypatch):
    """EPICS reaches this machine only, on ports that nobody else uses."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    for name, value in {
        "EPICS_PVA_ADDR_LIST": "127.0.0.1",
        "EPICS_PVA_AUTO_ADDR_LIST": "NO",
        "EPICS_PVA_BROADCAST_PORT": port,
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_BROADCAST_PORT": port,
        "EPICS_PVAS_SERVER_PORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
