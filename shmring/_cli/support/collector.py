"""Every ring as Prometheus sees it: samples made at each scrape, nothing kept in between."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from shmring import ConsumerStats, GroupStats, RingNotFound, RingStats, _names
from shmring._cli.support import groups, output
from shmring._inventory import Found, RingFacts, look, look_at_all

Families = dict[str, GaugeMetricFamily | CounterMetricFamily]
CONSUMER = ("ring", "place", "label", "policy", "group")
GROUP = ("ring", "group")
GAUGES = {
    "shmring_live": "1 if processes are attached to the ring, 0 if it is stale or missing.",
    "shmring_block_bytes": "Size of the ring's block.",
    "shmring_slots": "Slots of the ring.",
    "shmring_spare_slots": "Spare slots of the ring.",
    "shmring_spare_slots_in_use": "Slots that are held and whose entries have taken spare ones.",
    "shmring_frame_bytes": "Size of one frame.",
    "shmring_created_timestamp_seconds": "When the ring was created.",
    "shmring_producer_live": "1 if the ring has a living producer.",
    "shmring_producer_failed": "1 if the last producer ended because of an error.",
    "shmring_producer_died": "1 if the last producer ended without closing the ring.",
}
COUNTERS = {
    "shmring_published_frames": "Frames published since the ring was created.",
    "shmring_dropped_frames": "Frames that the producer offered and had to drop.",
    "shmring_swaps": "How often the producer exchanged the slots of two entries.",
    "shmring_producers": "Producers that the ring has had.",
}
CONSUMER_GAUGES = {
    "shmring_consumer_alive": "1 if the consumer's process lives.",
    "shmring_consumer_lag_frames": "Published frames that the consumer has not taken yet.",
    "shmring_consumer_held_frames": "Frames that the consumer keeps from being overwritten.",
    "shmring_consumer_max_held_slots": "Slots that a lossy consumer may hold.",
    "shmring_consumer_joined_timestamp_seconds": "When the consumer joined.",
}
CONSUMER_COUNTERS = {
    "shmring_consumer_delivered_frames": "Frames that the consumer took.",
    "shmring_consumer_lost_frames": "Frames that the consumer never got.",
    "shmring_consumer_skipped_frames": "Frames that the consumer passed over on purpose.",
    "shmring_consumer_redelivered_frames": "Frames it took that another member had when it died.",
}
GROUP_GAUGES = {
    "shmring_group_members": "Living members of the group.",
    "shmring_group_lag_frames": "Published frames that no member of the group has taken yet.",
    "shmring_group_held_frames": "Frames that living members of the group keep from being overwritten.",
    "shmring_group_redelivered_frames": "Frames that its present members took from members that died.",
}
GROUP_COUNTERS = {
    "shmring_group_lost_frames": "Frames that nobody got, because a member died that had them.",
}


class RingCollector(Collector):
    """The rings of these names, or all."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = names

    def describe(self) -> Iterable[Metric]:
        """Describe nothing beforehand, so that registering looks at no ring."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Look at the rings."""
        info = InfoMetricFamily("shmring_ring", "What the ring's frames are.", labels=["ring"])
        families: Families = {
            **{name: GaugeMetricFamily(name, text, labels=["ring"]) for name, text in GAUGES.items()},
            **{name: CounterMetricFamily(name, text, labels=["ring"]) for name, text in COUNTERS.items()},
            **{n: GaugeMetricFamily(n, text, labels=CONSUMER) for n, text in CONSUMER_GAUGES.items()},
            **{n: CounterMetricFamily(n, text, labels=CONSUMER) for n, text in CONSUMER_COUNTERS.items()},
            **{n: GaugeMetricFamily(n, text, labels=GROUP) for n, text in GROUP_GAUGES.items()},
            **{n: CounterMetricFamily(n, text, labels=GROUP) for n, text in GROUP_COUNTERS.items()},
        }
        found = self._look(families)
        for one in found:
            if one.ring is not None:
                _describe(info, one, one.ring)
                _add(families, one, one.ring)
        yield info
        yield from families.values()
        yield from _machine(found)

    def _look(self, families: Families) -> list[Found]:
        if not self.names:
            return look_at_all()
        found = []
        for name in self.names:
            try:
                found.append(look(name))
            except RingNotFound:
                families["shmring_live"].add_metric([output.clean(name)], 0)
        return found


def _describe(info: InfoMetricFamily, found: Found, ring: RingFacts) -> None:
    shape = output.shape(ring.stats.shape)
    words = {"dtype": output.dtype(ring.stats.dtype, short=True), "shape": shape, "owner": found.owner}
    info.add_metric([output.clean(found.name)], words)


def _add(families: Families, found: Found, ring: RingFacts) -> None:
    stats = ring.stats
    name = output.clean(found.name)
    for family, value in {
        "shmring_live": found.state == "live",
        "shmring_block_bytes": found.nbytes,
        "shmring_slots": stats.slots,
        "shmring_spare_slots": stats.spares,
        "shmring_spare_slots_in_use": stats.spares_in_use,
        "shmring_frame_bytes": ring.frame_nbytes,
        "shmring_created_timestamp_seconds": ring.created_ns / 1e9,
        "shmring_producer_live": stats.producer.state == "live",
        "shmring_producer_failed": stats.producer.state == "failed",
        "shmring_producer_died": stats.producer.state == "died",
        "shmring_published_frames": stats.published,
        "shmring_dropped_frames": stats.dropped,
        "shmring_swaps": stats.swaps,
        "shmring_producers": stats.producer.epoch,
    }.items():
        families[family].add_metric([name], value)
    for one in stats.consumers:
        _add_consumer(families, name, one)
    for group in stats.groups:
        _add_group(families, name, group, stats)


def _add_consumer(families: Families, ring: str, one: ConsumerStats) -> None:
    labels = [ring, str(one.place), output.clean(one.label), one.policy, output.clean(one.group or "")]
    for family, value in {
        "shmring_consumer_alive": one.alive,
        "shmring_consumer_lag_frames": one.lag,
        "shmring_consumer_held_frames": one.held,
        "shmring_consumer_joined_timestamp_seconds": one.joined_ns / 1e9,
        "shmring_consumer_delivered_frames": one.delivered,
        "shmring_consumer_lost_frames": one.lost,
        "shmring_consumer_skipped_frames": one.skipped,
    }.items():
        families[family].add_metric(labels, value)
    if one.max_held is not None:
        families["shmring_consumer_max_held_slots"].add_metric(labels, one.max_held)
    if one.group is not None:
        families["shmring_consumer_redelivered_frames"].add_metric(labels, one.redelivered)


def _add_group(families: Families, ring: str, group: GroupStats, stats: RingStats) -> None:
    living = groups.living(group, stats)
    for family, value in {
        "shmring_group_members": len(living),
        "shmring_group_lag_frames": group.lag,
        "shmring_group_held_frames": sum(one.held for one in living),
        "shmring_group_redelivered_frames": group.redelivered,
        "shmring_group_lost_frames": group.lost,
    }.items():
        families[family].add_metric([ring, output.clean(group.name)], value)


def _machine(found: Sequence[Found]) -> Iterable[Metric]:
    """Describe the file system, and what lies in it."""
    blocks = GaugeMetricFamily("shmring_blocks", "Blocks that were looked at, by state.", labels=["state"])
    for state, count in sorted(Counter(one.state for one in found).items()):
        blocks.add_metric([state], count)
    yield blocks
    disk = os.statvfs(_names.DIRECTORY)
    for name, text, value in (
        ("size", "Size of the shared-memory file system.", disk.f_blocks),
        ("free", "Free bytes of the shared-memory file system.", disk.f_bavail),
    ):
        yield GaugeMetricFamily(f"shmring_shm_{name}_bytes", text, value=value * disk.f_frsize)
