"""docs/cli: every page says what the command's help says, and what it shows is what comes out."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("click")

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "cli"
CHECKED = re.compile(r"<!-- checked -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
FLAGS = doctest.ELLIPSIS


def test_pages_are_what_the_help_says():
    wanted = runpy.run_path(str(DOCS / "generate.py"))["wanted"]()
    stale = [path.name for path, page in wanted.items() if not path.exists() or path.read_text() != page]
    assert not stale, f"run python docs/cli/generate.py: {stale}"


def test_every_page_is_of_a_command():
    from shmring._cli import COMMANDS

    assert {page.removesuffix(".md") for page in PAGES} == {"index", *COMMANDS}


def sessions(page: str) -> list[str]:
    return CHECKED.findall((DOCS / page).read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if sessions(page)])
def test_what_pages_show(page, tmp_path):
    """Each console block runs in a shell; what it prints, on stdout and stderr, is what the page says."""
    program = tmp_path / "shmring"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m shmring "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    for session in sessions(page):
        for command, said in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            output = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
            assert doctest.OutputChecker().check_output(said, output, FLAGS), (command, output)
