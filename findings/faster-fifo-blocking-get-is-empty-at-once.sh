#!/usr/bin/env bash
# faster-fifo: several processes wait in get(block=True, timeout=1000).
#
# Expected: queue.Empty after 1000 seconds without an item for this getter, as the interface of
#   multiprocessing.Queue, which the library offers, has it.
# Seen: a getter raises queue.Empty after milliseconds if another one took the item that both were woken for: it
#   waits for the condition once, and does not wait again for the rest of the time. With one getter it never happens.
# Versions: faster-fifo 1.5.2, CPython 3.11. Seen 2026-11-30:
#   1 getter: no Empty in 20 runs
#   4 getters: Empty within a second
# Hurts: a pool of workers in which `except queue.Empty: break` means that there is no more work: some leave at
#   once, the others work on, and it looks like a slow pool.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check faster-fifo==1.5.2
cat > "$work/program.py" <<'P'
import contextlib
import multiprocessing
import queue
import time

from faster_fifo import Queue

context = multiprocessing.get_context("fork")


def work(items, answers):
    began = time.monotonic()
    try:
        while items.get(block=True, timeout=1000) is not None:
            pass
    except queue.Empty:
        answers.put(time.monotonic() - began)
    else:
        answers.put(None)


def soonest(getters):
    """The seconds until a getter got Empty, or None."""
    items, answers = Queue(1 << 20), context.Queue()
    pool = [context.Process(target=work, args=(items, answers)) for _ in range(getters)]
    for process in pool:
        process.start()
    with contextlib.suppress(queue.Full):  # if all of them have left
        for _ in range(500):
            items.put(bytes(60000), block=True, timeout=10)
        for _ in pool:
            items.put(None, block=True, timeout=10)
    found = [answers.get() for _ in pool]
    for process in pool:
        process.join()
    return min((seconds for seconds in found if seconds is not None), default=None)


def runs(getters, most):
    for _ in range(most):
        seconds = soonest(getters)
        if seconds is not None:
            return f"Empty {'within a second' if seconds < 1 else 'later'}"
    return f"no Empty in {most} runs"


seen = [f"1 getter: {runs(1, 20)}", f"4 getters: {runs(4, 200)}"]
print(*seen, sep="\n")
raise SystemExit(seen != ["1 getter: no Empty in 20 runs", "4 getters: Empty within a second"])
P
"$work/venv/bin/python" "$work/program.py"
