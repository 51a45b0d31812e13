"""findings: every script has the header that the page of findings is made from."""

from __future__ import annotations

import os
import runpy
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(TREE / "docs" / "findings" / "generate.py"))
SCRIPTS = GENERATOR["SCRIPTS"]


def test_the_page_is_what_the_headers_say():
    wanted = GENERATOR["wanted"]()
    assert GENERATOR["PAGE"].read_text() == wanted, "run python docs/findings/generate.py"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_what_it_must(script):
    said = GENERATOR["parts"](script)
    assert list(said) == ["title", *GENERATOR["PARTS"]]
    software, output = GENERATOR["versions"](said["Versions"])
    assert "Seen 20" in software, "the header names the day"
    assert output, "the header shows what comes out"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_installs_pinned_packages_into_a_folder_of_its_own(script):
    text = script.read_text()
    assert "work=$(mktemp -d)" in text
    assert "trap 'rm -rf \"$work\"' EXIT" in text
    assert "shmring" not in text, "a finding is about other software alone"
