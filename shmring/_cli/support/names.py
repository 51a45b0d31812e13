"""Names of rings as arguments, with shell completion."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from shmring import _names
from shmring._inventory import look_at_all


class RingName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A name that a ring can have."""

    name = "ring"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        try:
            return _names.check_name(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the rings that are there."""
        try:
            found = look_at_all()
        except OSError:
            return []
        return [CompletionItem(one.name) for one in found if one.is_ring and one.name.startswith(incomplete)]


ring = click.argument("name", metavar="NAME", type=RingName())
rings = click.argument("chosen", metavar="[NAME]...", type=RingName(), nargs=-1)
optional_ring = click.argument("name", metavar="[NAME]", type=RingName(), required=False)
