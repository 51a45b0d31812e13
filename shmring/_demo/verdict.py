"""The end of `shmring demo`: what every process counted itself, and whether it fits together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shmring._demo.children import CONSUMERS, Account
from shmring._words import count

COLUMNS = ("process", ">frames", ">GB", ">GB/s", ">lost", ">skipped", ">wrong", ">copied")


def final_rows(accounts: Mapping[str, Account | None], frame_nbytes: int) -> list[Sequence[str]]:
    """Make a row for each process; one of dashes if it ended without an account."""
    rows: list[Sequence[str]] = []
    for role, account in accounts.items():
        if account is None or account.failure:
            rows.append((role, *["-"] * (len(COLUMNS) - 1)))
            continue
        gigabytes = account.frames * frame_nbytes / 1e9
        speed = f"{gigabytes / account.seconds:.2f}" if account.seconds else "-"
        counts = [f"{n:,}" for n in (account.lost, account.skipped, account.wrong, account.copied)]
        own = [""] * len(counts) if role == "producer" else counts
        rows.append((role, f"{account.frames:,}", f"{gigabytes:.2f}", speed, *own))
    return rows


def find_problems(accounts: Mapping[str, Account]) -> list[str]:
    """Find everything that contradicts the producer's own count and digest."""
    sent, recorder = accounts["producer"], accounts["recorder"]
    problems = [] if sent.frames else ["not one frame was streamed"]
    for role in CONSUMERS:
        got = accounts[role]
        if got.wrong:
            problems.append(f"{_frames(got.wrong)} of the {role} without the right checksum")
        if got.frames + got.lost + got.skipped != sent.frames:
            problems.append(
                f"the {role} accounts for {got.frames:,} received + {got.lost:,} lost + "
                f"{got.skipped:,} skipped of {_frames(sent.frames)}"
            )
    if recorder.frames != sent.frames:
        problems.append(f"the recorder got {recorder.frames:,} of {_frames(sent.frames)}")
    elif recorder.digest != sent.digest:
        problems.append("the recorder's frames are not the producer's, or not in that order")
    return problems


def praise(accounts: Mapping[str, Account], frame_nbytes: int) -> str:
    """Say what was proved in a demo in which nothing went wrong."""
    sent = accounts["producer"]
    gigabytes = sent.frames * frame_nbytes / 1e9
    seen = sum(accounts[role].frames for role in CONSUMERS)
    copied = sum(accounts[role].copied for role in CONSUMERS)
    return (
        f"VERIFIED: the recorder got all {_frames(sent.frames)}, in order, each with the producer's crc32: "
        f"{gigabytes:.2f} GB in {sent.seconds:.1f} s, {gigabytes / sent.seconds:.2f} GB/s. "
        "What limits this rate is the processes' work (pictures, crc32), not the ring: see shmring bench. "
        f"The consumers read {_frames(seen - copied)} in place and {copied:,} by copy; "
        "what the viewer and the latest reader did not get is counted."
    )


def _frames(number: int) -> str:
    return count(number, "frame", ",")
