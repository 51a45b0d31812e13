"""What the tests of video and audio share."""

import pytest

from support import convention


@pytest.fixture(autouse=True)
def attrs_by_the_convention():
    """Of every ring that is made for frames of these libraries."""
    with convention.kept():
        yield
