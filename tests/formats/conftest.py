"""Formats of others: what their libraries leave in a process."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def libraries(zarr_thread):
    pass
