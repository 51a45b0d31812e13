r"""The command `shmring`: one module per command, each loaded only when it is used.

To add a command, write a click command in a module of `commands` that has its name (the object ``record`` of
``commands/record.py``), and add the name to `COMMANDS` below with a summary that fits in 80 columns. What it
shares with others goes into `support`: no command imports from a command::

    @click.command()
    @names.ring                     # the argument NAME, with shell completion
    @click.option("--frames", metavar="N", type=types.COUNT, help="Stop after N frames.")
    def record(name: str, frames: int | None) -> int | None:
        '''Record the frames of a ring to a file.'''

- Its docstring is the help (`\f` ends what users see); the pages in docs/cli/ are generated from it by
  docs/cli/generate.py, and a test fails where they differ. Give every option a metavar and a help that
  says its default.
- It returns None or an exit code: see `shmring._cli.app.EXIT_CODES`. It may raise: every ShmringError,
  OSError and `app.Refusal` becomes one line on stderr, KeyboardInterrupt 130, BrokenPipeError a silent 1.
- Results go to stdout, everything else (progress, warnings) to stderr; `output` prints tables and JSON.
- Libraries that take long to import (rich, textual, psutil, prometheus_client) are imported in the
  function that uses them.
"""

# Read without the extra, too: `shmring --help` lists them where click is missing.
COMMANDS = {
    "ls": "List the rings on this machine.",
    "info": "Show everything about one ring.",
    "top": "Watch rings live: rates, fill, lag and losses.",
    "view": "Show rings in a browser, live.",
    "rm": "Remove rings that are not in use.",
    "write": "Publish frames from stdin.",
    "read": "Write the frames of a ring to stdout.",
    "record": "Record the frames of a ring to a file.",
    "replay": "Publish the frames of a recording.",
    "capture": "Save the frames around a trigger.",
    "doctor": "Find problems on this machine, and how to fix them.",
    "metrics": "Print or serve counters for Prometheus.",
    "bench": "Measure what rings can do on this machine.",
    "demo": "Stream frames to three processes, and verify every one.",
    "completion": "Print the completion script for a shell.",
}
