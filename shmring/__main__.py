"""The command `shmring`, or `python -m shmring`: says what to install where the extra `cli` is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from shmring._cli import streams

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
        print(f'shmring: this needs {library}: pip install "shmring[cli]"', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # while it was still importing
        sys.exit(130)


if __name__ == "__main__":
    main()
