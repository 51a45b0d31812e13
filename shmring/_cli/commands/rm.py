"""`shmring rm`: remove rings."""

from __future__ import annotations

import click

import shmring
from shmring._cli.support import names, output, streams
from shmring._inventory import look_at_all, remove, unlink


@click.command()
@names.rings
@click.option("--stale", is_flag=True, help="Remove every ring that is no longer in use.")
@click.option(
    "--force",
    is_flag=True,
    help="Remove even the name of a ring in use: processes that are attached keep the ring, others cannot "
    "attach.",
)
@click.option("--dry-run", is_flag=True, help="With --stale: only list what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print what was removed and what was not, as JSON.")
def rm(chosen: tuple[str, ...], stale: bool, force: bool, dry_run: bool, as_json: bool) -> int:
    """Remove the rings NAME, if they are not in use, or every stale ring.

    A ring in use is refused without --force, and a block of another program always.
    """
    if bool(chosen) == stale:
        raise click.UsageError("give the NAME of a ring, or --stale")
    if stale and force:
        raise click.UsageError("--force needs the NAME of a ring")
    if dry_run and not stale:
        raise click.UsageError("--dry-run needs --stale")
    if stale:
        chosen = tuple(found.name for found in look_at_all() if found.state == "stale")
    removed: list[str] = []
    refused: dict[str, str] = {}
    missing = False
    for name in chosen:
        try:
            if not dry_run:
                (unlink if force else remove)(name)
        except (shmring.ShmringError, OSError) as error:
            missing = isinstance(error, shmring.RingNotFound)
            refused[name] = str(error)
        else:
            removed.append(name)
    if as_json:
        output.show_json({"would_remove" if dry_run else "removed": removed, "refused": refused})
    else:
        for name in removed:
            click.echo(f"{'would remove' if dry_run else 'removed'} {output.clean(name)}")
        for reason in refused.values():
            streams.say(f"shmring rm: {output.clean(reason)}")
    if refused:
        return 3 if missing and len(chosen) == 1 else 1
    return 0
