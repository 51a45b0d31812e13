r"""The command `shmring`: one module per command, each loaded only when it is used.

To add a command, write a click command in a module of this folder and name it in `COMMANDS` below
(``"record": "record:record"`` is the object ``record`` of ``shmring/_cli/record.py``)::

    @click.command()
    @names.ring                     # the argument NAME, with shell completion
    @click.option("--frames", metavar="N", type=types.COUNT, help="Stop after N frames.")
    def record(name: str, frames: int | None) -> int | None:
        '''Save the frames of a ring in a file.'''

- Its docstring is the help (`\f` ends what users see); the pages in docs/cli/ are generated from it by
  docs/cli/generate.py, and a test fails where they differ. Give every option a metavar and a help that
  says its default.
- It returns None or an exit code: see `shmring._cli.app.EXIT_CODES`. It may raise: every ShmringError,
  OSError and `app.Refusal` becomes one line on stderr, KeyboardInterrupt 130, BrokenPipeError a silent 1.
- Results go to stdout, all else (progress, warnings) to stderr; `output` prints tables and JSON.
- Libraries that take long to import (rich, textual, psutil, prometheus_client) are imported in the
  function that uses them.
"""

COMMANDS = {
    "ls": "ls:ls",
    "info": "info:info",
    "top": "top:top",
    "rm": "rm:rm",
    "write": "write:write",
    "read": "read:read",
    "record": "record:record",
    "replay": "replay:replay",
    "capture": "capture:capture",
    "doctor": "doctor:doctor",
    "metrics": "metrics:metrics",
    "bench": "bench:bench",
    "demo": "demo:demo",
    "completion": "completion:completion",
}
