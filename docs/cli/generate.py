"""Writes what the pages of this folder say about options from the commands' own help.

python docs/cli/generate.py  after a change of a command: tests/text/test_cli_pages.py fails where they differ
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click

from shmring._cli import COMMANDS
from shmring._cli.app import EXIT_CODES, PROGRAM, app

FOLDER = Path(__file__).parent
BEGIN = "<!-- from here: generated from the help by docs/cli/generate.py -->\n"
END = "<!-- to here: generated -->\n"


def render(name: str) -> str:
    """The generated part of a command's page."""
    command = app.get_command(click.Context(app), name)
    assert command is not None
    words = [PROGRAM, name, command.options_metavar or ""]
    words += [
        param.metavar or param.name.upper() for param in command.params if isinstance(param, click.Argument)
    ]
    parts = ["```text\n" + " ".join(words) + "\n```\n", *paragraphs(command.help or "")]
    options = [param for param in command.params if isinstance(param, click.Option)]
    rows = [f"| {names(option)} | {meaning(option)} |" for option in options]
    rows.append("| `--help`, `-h` | Show this and exit. |")
    parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n")
    return BEGIN + "\n" + "\n".join(parts) + "\n" + END


def names(option: click.Option) -> str:
    """How to write an option."""
    spelled = ", ".join([*option.opts, *option.secondary_opts])
    metavar = "" if option.is_flag else f" {option.metavar}"
    return "`" + (spelled + metavar).replace("|", "\\|") + "`"


def meaning(option: click.Option) -> str:
    """What an option does."""
    required = " Required." if option.required else ""
    return (option.help or "").replace("|", "\\|") + required


def paragraphs(text: str) -> list[str]:
    """The help as Markdown; what click must not wrap is a block."""
    found = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        unwrapped, _, rest = paragraph.partition("\n")
        if unwrapped.strip() == "\b":
            found.append(f"```text\n{rest}\n```\n")
        else:
            found.append(paragraph + "\n")
    return found


def render_exit_codes() -> str:
    """The table of exit codes for the first page."""
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return BEGIN + "\n" + "\n".join(["| exit code | meaning |", "|---|---|", *rows]) + "\n\n" + END


def update(page: str, generated: str) -> str:
    """The page with its generated part renewed."""
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: generated, page, flags=re.DOTALL)


def wanted() -> dict[Path, str]:
    """What every page should hold."""
    pages = {FOLDER / "index.md": render_exit_codes()}
    pages |= {FOLDER / f"{name}.md": render(name) for name in COMMANDS}
    found = {}
    for path, generated in pages.items():
        page = path.read_text() if path.exists() else f"# {PROGRAM} {path.stem}\n\n{BEGIN}{END}"
        found[path] = update(page, generated)
    return found


if __name__ == "__main__":
    for path, page in wanted().items():
        path.write_text(page)
