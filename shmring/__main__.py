"""The command `shmring` (or `python -m shmring`). Each command is a module with add_command()."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import shmring
from shmring import _demo

COMMANDS = (_demo,)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = Parser(prog="shmring", description="Rings of NumPy frames in shared memory.")
    parser.add_argument("--version", action="version", version=f"shmring {shmring.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        The words after `shmring`; by default those of this process.

    Returns
    -------
    int
        The exit code: 0 all is well, 1 a check failed, 2 the user's mistake, 130 Ctrl-C.
    """
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left (| head): the flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
