"""Fails unless a commit message has a short subject and a body: check_commit_message.py FILE.

pre-commit runs it as a commit-msg hook. CONTRIBUTING.md has the rule.
"""

import re
import sys
from pathlib import Path

LONGEST_SUBJECT = 72
MADE_BY_GIT = re.compile(r"(Merge|fixup!|squash!|amend!) ")  # these lose their text, or keep another one's


def problem_with(message: str) -> str | None:
    """Return what is wrong with a commit message, or None."""
    lines = [line.rstrip() for line in message.splitlines() if not line.startswith("#")]
    subject, rest = (lines or [""])[0], lines[1:]
    if not subject:
        return "the first line is empty: write the subject there"
    if MADE_BY_GIT.match(subject):
        return None
    if len(subject) > LONGEST_SUBJECT:
        return f"the subject has {len(subject)} characters: shorten it to {LONGEST_SUBJECT} at most"
    if rest and rest[0]:
        return "the second line is not empty: leave it empty between subject and body"
    if not any(rest):
        return "there is no body: say why you made the change"
    return None


if __name__ == "__main__":
    if problem := problem_with(Path(sys.argv[1]).read_text(encoding="utf-8")):
        sys.exit(f"commit message: {problem}")
