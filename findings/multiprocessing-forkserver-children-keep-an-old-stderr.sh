#!/usr/bin/env bash
# multiprocessing: a child of the fork server writes to the stderr that was there when the server started.
#
# Expected: a child inherits the standard streams that its parent has when it starts the child, as with fork and
#   spawn.
# Seen: the fork server starts with the first child of the program, and every later child inherits the server's
#   streams: after os.dup2(log, 2) the parent's own lines are in the log, and the traceback of a child that fails
#   is not.
# Versions: CPython 3.11.7 and 3.14.10, where the fork server is the default on Linux. Seen 2026-11-30:
#   fork: the log has the child's line
#   spawn: the log has the child's line
#   forkserver: the log is empty
# Hurts: services that open their log, and tests that capture stderr, after something has started a child.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/program.py" <<'P'
import multiprocessing
import os
import sys


def complain():
    os.write(2, b"a line of the child\n")


def main():
    seen = []
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        first = context.Process(target=int)
        first.start()
        first.join()
        before = os.dup(2)
        with open(os.path.join(sys.argv[1], method), "w+") as log:
            os.dup2(log.fileno(), 2)
            child = context.Process(target=complain)
            child.start()
            child.join()
            os.dup2(before, 2)
            log.seek(0)
            said = "has the child's line" if log.read() else "is empty"
            seen.append(f"{method}: the log {said}")
        os.close(before)
    print(*seen, sep="\n")
    return [line.endswith("is empty") for line in seen] == [False, False, True]


if __name__ == "__main__":
    raise SystemExit(not main())
P
python3 "$work/program.py" "$work" 2>/dev/null
