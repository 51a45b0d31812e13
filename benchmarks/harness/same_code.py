"""Compares the machine code of the hot path in two builds of the core.

python -m benchmarks.harness.same_code OLD.so NEW.so     for each function: the same, or what differs

A step that should only move or rename code leaves every function the same. Addresses, the numbers that Cython
puts into names and the places of its tables are left out; "other constants" are line numbers of tracebacks,
offsets of fields and the like. Needs objdump, and builds with their symbols.
"""

import re
import subprocess
import sys
from difflib import SequenceMatcher

# What runs for each frame. C functions that are not listed were inlined into these.
HOT = (
    "Producer.put",
    "Producer.claim",
    "Producer.claim_frames",
    "Producer.occupy",
    "Producer.vacate",
    "Producer.end_claim",
    "Producer.publish_claim",
    "Slot.publish",
    "Slot.make_view",
    "Consumer.get",
    "Consumer.try_get",
    "Consumer.try_take",
    "Consumer.take_frame",
    "Consumer.take_batch",
    "Consumer.give_back",
    "Held.get_array",
    "Held.make_view",
    "Held.release",
    "Schema.frame_array",
    "shmring_claim",
    "shmring_rescan",
    "shmring_copy_in",
    "shmring_publish",
    "shmring_take_lossy",
    "shmring_collect",
    "shmring_finish_take",
    "shmring_release",
)

INSTRUCTION = re.compile(r"\s*[0-9a-f]+:\t(.*?)\s*(?:#.*)?$")
HEAD = re.compile(r"[0-9a-f]+ <(.+)>:$")
METHOD = re.compile(r"__pyx_(?:pw|pf|f)_7shmring_5_core_\d+([A-Za-z]+)_(?:\d+)?(\w+?)$")
CLONE = re.compile(r"\.(?:part|constprop|isra|cold|lto_priv)\b.*")


def readable(symbol: str) -> str:
    """`Producer.put` for __pyx_pw_7shmring_5_core_8Producer_13put.part.0."""
    plain = CLONE.sub("", symbol)
    method = METHOD.match(plain)
    return f"{method[1]}.{method[2]}" if method else plain


def normalised(text: str, inside: str) -> str:
    """An instruction without addresses."""
    called = re.match(r"(\S+)\s+[0-9a-f]+ <([^+>]+)(\+0x[0-9a-f]+)?>$", text)
    if called and called[2] == inside:
        return f"{called[1]} here"
    if called:
        return f"{called[1]} {readable(called[2])}"
    return re.sub(r"-?0x[0-9a-f]+\(%rip\)", "DATA(%rip)", text)


def functions(path: str) -> dict[str, list[str]]:
    """The instructions of every function, with its clones and its cold part."""
    command = ["objdump", "-d", "--no-show-raw-insn", path]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    inside = ""
    for line in listing.splitlines():
        if head := HEAD.match(line):
            inside = head[1]
        elif instruction := INSTRUCTION.match(line):
            text = normalised(instruction[1], inside)
            if not text.startswith(("nop", "data16", "cs nop", "xchg   %ax,%ax")):
                found.setdefault(readable(inside), []).append(text)
    return found


def without_constants(code: list[str]) -> list[str]:
    return [re.sub(r"-?(?:\$-?)?0x[0-9a-f]+", "N", line) for line in code]


def verdict(old: list[str] | None, new: list[str] | None) -> str:
    if not old or not new:
        return "in neither" if not old and not new else f"only in {'OLD' if old else 'NEW'}"
    if old == new:
        return f"same ({len(new)} instructions)"
    if without_constants(old) == without_constants(new):
        return f"same but for other constants ({len(new)} instructions)"
    pairs = SequenceMatcher(None, without_constants(old), without_constants(new), autojunk=False)
    alike = sum(block.size for block in pairs.get_matching_blocks())
    return f"different: {len(old)} -> {len(new)} instructions, {alike} alike"


def main(old_path: str, new_path: str) -> int:
    old, new = functions(old_path), functions(new_path)
    verdicts = {name: verdict(old.get(name), new.get(name)) for name in HOT}
    for name, found in verdicts.items():
        print(f"{name:24} {found}")
    return int(any(found.startswith(("different", "only")) for found in verdicts.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
