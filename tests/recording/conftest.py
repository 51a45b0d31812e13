"""Recordings: what their libraries leave in a process, and the programs that have imported them."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def libraries(programs, zarr_thread):
    programs.load("zarr")  # h5py looks at the environment when it is imported
