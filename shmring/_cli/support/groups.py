"""How commands show groups, and which consumers are their members."""

from __future__ import annotations

from shmring import ConsumerStats, GroupStats, RingStats
from shmring._cli.support import output


def members(group: GroupStats, stats: RingStats) -> list[ConsumerStats]:
    """Return the members of a group, the dead ones too."""
    return [one for one in stats.consumers if one.group == group.name]


def living(group: GroupStats, stats: RingStats) -> list[ConsumerStats]:
    """Return the members whose processes live."""
    return [one for one in members(group, stats) if one.alive]


def describe(group: GroupStats, stats: RingStats) -> str:
    """Describe a group in one line."""
    every = members(group, stats)
    dead = len(every) - len(living(group, stats))
    who = output.count(len(every), "member") + (f" ({dead} dead)" if dead else "")
    mode = ", at most once" if group.at_most_once else ""
    counts = f"lag {group.lag:,}, {group.redelivered:,} redelivered, {group.lost:,} lost"
    return f"{output.clean(group.name)}: {who}{mode}, {counts}"


def policy(one: ConsumerStats) -> str:
    """Name a consumer's policy, or the group that it is a member of."""
    return one.policy if one.group is None else f"group {output.clean(one.group)}"
