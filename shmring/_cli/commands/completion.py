"""`shmring completion`: what a shell needs to complete commands, options and names of rings."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from shmring._cli.app import PROGRAM, app

VARIABLE = "_SHMRING_COMPLETE"


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL: bash, zsh or fish.

    Add one line to the shell's start-up file.

    \b
    bash: echo 'eval "$(shmring completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(shmring completion zsh)"' >> ~/.zshrc
    fish: shmring completion fish > ~/.config/fish/completions/shmring.fish
    """  # noqa: D301  (\b keeps click from wrapping)
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(app, {}, PROGRAM, VARIABLE).source())
