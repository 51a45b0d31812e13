"""A line on the terminal that shows how far a long command is."""

from __future__ import annotations

import contextlib
import sys
from typing import Self


class ProgressLine:
    """A bar and a text on stderr, redrawn in place; nothing where that is not a terminal."""

    def __init__(self, quiet: bool, first: str) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._first = first

    def __enter__(self) -> Self:
        if self._shown:
            from rich import progress
            from rich.console import Console

            bar = progress.BarColumn(bar_width=20)
            text = progress.TextColumn("{task.description}")
            self._display = progress.Progress(bar, text, console=Console(stderr=True), transient=True)
            self._display.start()
            self._task = self._display.add_task(self._first, total=None)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._shown:
            with contextlib.suppress(OSError):
                self._display.stop()

    def draw(self, text: str, share: float | None) -> None:
        """Show the text and how much is done, 0 to 1; None: unknown."""
        if not self._shown:
            return
        with contextlib.suppress(OSError):  # a terminal that is gone must not end the work that it shows
            if share is not None:
                self._display.update(self._task, total=1.0, completed=min(share, 1.0))
            self._display.update(self._task, description=text, refresh=True)
