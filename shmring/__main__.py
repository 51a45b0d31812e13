"""The command `shmring`, or `python -m shmring`; where the extra `cli` is missing, what to install."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from shmring._cli import COMMANDS
from shmring._cli.support import streams

INSTALL = 'pip install "shmring[cli]"'
LIBRARIES = ("click", "rich", "textual", "psutil", "prometheus_client")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit.

    Parameters
    ----------
    arguments
        The words after `shmring`; by default those of this process.
    """
    streams.stand_in()
    try:
        from shmring._cli import app

        app.main(arguments)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in LIBRARIES:
            raise
        sys.exit(_without(library, sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # while it was still importing
        sys.exit(130)


def _without(library: str, arguments: Sequence[str]) -> int:
    """Answer what can be answered without the extra; the exit code."""
    words = list(arguments)
    if words in (["--version"], ["-V"]):
        from shmring import __version__

        print(f"shmring {__version__}")
    elif words in (["--help"], ["-h"]):
        print(_help())
    else:
        print(f"shmring: this needs {library}: {INSTALL}", file=sys.stderr)
        return 2
    return 0


def _help() -> str:
    commands = "\n".join(f"  {name:<10}  {summary}" for name, summary in COMMANDS.items())
    return (
        f"Usage: shmring [OPTIONS] COMMAND [ARGS]...\n\n  Rings of NumPy frames in shared memory.\n\n"
        f"Commands:\n{commands}\n\n  The commands come with an extra: {INSTALL}"
    )


if __name__ == "__main__":
    main()
