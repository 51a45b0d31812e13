"""What surrounds the code: commit messages, hooks, issue forms, the hosted workflow, drawings."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def problem_with():
    return runpy.run_path(str(TREE / ".ci" / "check_commit_message.py"))["problem_with"]


@pytest.mark.parametrize(
    "message",
    [
        "Short and clear\n\nIt says why.\n",
        "x" * 72 + "\n\nA body.\n\n# a comment of git, as long as it likes" + "." * 60,
        "Merge branch 'main' into work",
        "fixup! Short and clear",
    ],
)
def test_good_commit_messages(problem_with, message: str) -> None:
    assert problem_with(message) is None


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("", "empty"),
        ("# only comments\n", "empty"),
        ("x" * 73 + "\n\nA body.\n", "73 characters"),
        ("A subject\nand a body right below\n", "second line"),
        ("A subject without a body\n\n# Please enter the commit message\n", "no body"),
    ],
)
def test_bad_commit_messages(problem_with, message: str, problem: str) -> None:
    assert problem in problem_with(message)


def test_the_hooks_run_the_linters_of_nox() -> None:
    """Each linter of the session lint has a hook, so that a commit passes both or neither."""
    session = (TREE / "noxfile.py").read_text().partition("def lint(")[2].partition("@nox.session")[0]
    linters = set(re.findall(r'session\.run\("([\w-]+)"', session))
    hooks = (TREE / ".pre-commit-config.yaml").read_text()
    assert linters == set(re.findall(r"entry: ([\w-]+)", hooks)) - {"python"}


def test_issue_forms_ask_for_doctor() -> None:
    forms = sorted((TREE / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert forms
    assert all("shmring doctor --json" in form.read_text() for form in forms)


def test_the_hosted_workflow_only_calls_the_checks() -> None:
    text = (TREE / ".github" / "workflows" / "ci.yml").read_text()
    commands = re.findall(r"- run: (.*)", text)
    assert commands[-1] == "bash .ci/run"
    assert not [line for line in commands if "pytest" in line or "nox" in line]


def test_the_workflow_of_releases_publishes_what_it_built_and_tested() -> None:
    text = (TREE / ".github" / "workflows" / "release.yml").read_text()
    publish = text.partition("  publish:")[2]
    assert "if: github.ref_type == 'tag'" in publish
    assert "needs: [sdist, wheels]" in publish
    assert "password" not in re.sub(r"#.*", "", publish)
    assert 'cibuildwheel==4.*"' in text


def test_wheels_are_configured_for_every_python_that_is_tested() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    built = project["tool"]["cibuildwheel"]["build"].split()
    classifiers = re.findall(r"Python :: (3\.\d+)", str(project["project"]["classifiers"]))
    assert {f"cp{version.replace('.', '')}-*" for version in classifiers} == {
        name for name in built if "t-" not in name
    }


def test_the_version_is_in_one_place() -> None:
    version = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["version"]
    tracked = [*TREE.glob("*"), *(TREE / "shmring").rglob("*.py"), *(TREE / "docs").glob("*.py")]
    texts = {path.name: path.read_text() for path in tracked if path.is_file() and path.suffix != ".so"}
    named = {name for name, text in texts.items() if re.search(rf"version\W+{re.escape(version)}\b", text)}
    assert named == {"pyproject.toml"}


def test_drawings_are_those_of_their_program() -> None:
    """Run docs/drawings/draw.py after a change of it."""
    folder = TREE / "docs" / "drawings"
    pictures = runpy.run_path(str(folder / "draw.py"))["PICTURES"]
    assert {path.name for path in folder.glob("*.svg")} == set(pictures)
    stale = [name for name, draw in pictures.items() if (folder / name).read_text() != draw()]
    assert not stale
