"""The program: finds the command, runs it, and turns every mistake into one line and an exit code."""

from __future__ import annotations

import difflib
import importlib
import io
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

import shmring
from shmring._cli import COMMANDS
from shmring._cli.support import output, streams
from shmring._cli.support.refusal import system_error

PROGRAM = "shmring"
EXIT_CODES = {
    0: "done",
    1: "a problem was found, the command could not do what you asked, or the reader of its output left early",
    2: "wrong usage",
    3: "no ring has that name",
    130: "interrupted by Ctrl-C",
    143: "ended by SIGTERM",
}
SAID_ELSEWHERE = {  # what other programs call it
    "help": "--help",
    "version": "--version",
    "list": "ls",
    "show": "info",
    "stat": "info",
    "stats": "info",
    "watch": "top",
    "remove": "rm",
    "delete": "rm",
    "unlink": "rm",
    "play": "replay",
    "check": "doctor",
    "benchmark": "bench",
}


class Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order that help shows."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"shmring._cli.commands.{cmd_name}"), cmd_name
        )
        command.short_help = COMMANDS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed; a typo is answered with what was meant."""
        unknown = bool(args) and args[0] not in COMMANDS and not args[0].startswith("-")
        if unknown and not ctx.resilient_parsing:
            raise click.UsageError(f"no such command: {args[0]!r}{_meant(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; at Ctrl-C click would print an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None


def _meant(word: str) -> str:
    """Suggest commands for a word that is not one."""
    word = word.lower()
    near = [SAID_ELSEWHERE[word]] if word in SAID_ELSEWHERE else difflib.get_close_matches(word, COMMANDS, 2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


@click.group(
    cls=Commands,
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog="Exit codes: "
    + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    + ". Shell completion: shmring completion --help.",
)
@click.version_option(shmring.__version__, "--version", "-V", message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Rings of NumPy frames in shared memory."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit.

    Parameters
    ----------
    arguments
        The words after `shmring`; by default those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label that the locale has no letters for
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code, one of `EXIT_CODES`."""
    try:
        result = app.main(arguments, PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else PROGRAM
        return _fail(f"{where}: {_usage(error)} (see {where} --help)", 2)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # the reader of our output left (| head)
        streams.give_up_stdout()
        return 1
    except click.ClickException as error:
        return _fail(f"{PROGRAM}: {error.format_message()}", 1)
    except shmring.RingNotFound as error:
        return _fail(f"{PROGRAM}: {error}", 3)
    except shmring.ShmringError as error:
        return _fail(f"{PROGRAM}: {error}", 1)
    except OSError as error:
        streams.give_up_stdout()
        return _fail(f"{PROGRAM}: {system_error(error)}", 1)
    except MemoryError as error:
        return _fail(f"{PROGRAM}: there is not enough memory for this: {error}".removesuffix(": "), 1)
    except (ValueError, OverflowError) as error:
        return _fail(f"{PROGRAM}: {error}", 1)
    return result if isinstance(result, int) else 0


def _usage(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        near = f"; did you mean {' or '.join(error.possibilities)}?" if error.possibilities else ""
        return f"unrecognized arguments: {error.option_name}{near}"
    message = error.format_message()
    return message[:1].lower() + message[1:].rstrip(".")


def _fail(line: str, code: int) -> int:
    streams.say(output.clean(" ".join(line.split())))
    return code
