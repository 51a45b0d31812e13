"""The screen of `shmring top`, without a terminal."""

from __future__ import annotations

import asyncio

from textual.widgets import DataTable

from shmring._cli.commands.top import top
from shmring._cli.support.top_screen import Top

NARROW, WIDE = (80, 24), (200, 50)


def watch(script, name: str | None = None, size=WIDE) -> Top:
    """Run `await script(app, pilot, look)` on a screen; `look` looks at the rings once more."""
    app = Top(name, 3600.0, top.help or "")

    async def run() -> None:
        async with app.run_test(size=size) as pilot:

            async def look() -> None:
                app.look()
                await app.workers.wait_for_complete()
                await pilot.pause()

            await app.workers.wait_for_complete()
            await pilot.pause()
            await script(app, pilot, look)

    asyncio.run(run())
    return app


def shown(app: Top, table: str) -> list[list[str]]:
    """The rows of a table as text."""
    widget = app.query_one(table, DataTable)
    return [[str(cell) for cell in widget.get_row_at(row)] for row in range(widget.row_count)]


def columns(app: Top, table: str) -> list[str]:
    return [str(column.label) for column in app.query_one(table, DataTable).ordered_columns]
