"""The errors of mirrors."""

from shmring.errors import ShmringError

__all__ = ["SourceDied"]


class SourceDied(ShmringError, ConnectionError):
    """The actor that sends a ring's frames is gone for good, mostly with its node."""
