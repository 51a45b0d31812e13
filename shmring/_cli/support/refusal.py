"""Why a command stops: one line for people."""

from __future__ import annotations

import click


class Refusal(click.ClickException):
    """Why a command cannot do what it was asked, in one line that says what to do; exit code 1."""


def system_error(error: OSError) -> str:
    """Say what the operating system refused, without its numbers."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
