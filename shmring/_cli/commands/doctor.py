"""`shmring doctor`: problems on this machine, and what to type."""

from __future__ import annotations

import dataclasses

import click

from shmring._cli.support import output
from shmring._cli.support.checks import CHECKS
from shmring._inventory import look_at_all

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of findings.")
def doctor(as_json: bool) -> int:
    """Find problems on this machine, and what to type to fix them.

    Looks at the size of /dev/shm (and Docker's limit), the memory limit, systemd's RemoveIPC, locked memory,
    huge pages, cores, stale and unreadable rings, dead and stopped participants, rings that stay full
    because of a consumer or a group, other users' blocks.

    Exit codes: 0 no problem was found (notes do not count), 1 a problem was found.
    """
    blocks = look_at_all()
    findings = [finding for check in CHECKS for finding in check(blocks)]
    if as_json:
        output.show_json([dataclasses.asdict(finding) for finding in findings])
    else:
        from rich.text import Text

        console = output.make_console()
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            head = f"{finding.level:<8} {finding.check:<{width}}  "
            console.print(Text.assemble((head, STYLES[finding.level]), finding.found), soft_wrap=True)
            for line in (finding.do and f"type: {finding.do}", finding.advice):
                if line:
                    console.print(Text(f"{'':<{len(head)}}{line}"), soft_wrap=True)
    return int(any(finding.level == "problem" for finding in findings))
