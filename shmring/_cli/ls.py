"""`shmring ls`."""

import click


@click.command()
def ls() -> None:
    """List."""
