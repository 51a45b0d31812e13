"""`shmring metrics`: counters of rings for a monitoring system."""

from __future__ import annotations

import re
import signal

import click

from shmring._cli.support import names, streams, types
from shmring._cli.support.refusal import Refusal
from shmring._cli.support.signals import ended_by_signals
from shmring._inventory import look


def _address(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:(?P<host>[^:\[\]]*|\[[0-9a-fA-F:]+\]):)?(?P<port>\d{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{text!r} is not an address; write it as :9100 or 127.0.0.1:9100")
    return (match["host"] or "").strip("[]") or "0.0.0.0", int(match["port"])


@click.command()
@names.rings
@click.option("--prometheus", is_flag=True, help="In the text format of Prometheus (the default).")
@click.option(
    "--listen",
    metavar="[HOST]:PORT",
    type=types.Parsed("address", _address),
    help="Serve them over HTTP until Ctrl-C, instead of printing them once.",
)
def metrics(chosen: tuple[str, ...], prometheus: bool, listen: tuple[str, int] | None) -> None:
    """Print counters of the rings NAME, or of all, in the text format of Prometheus.

    With --listen, each scrape looks at the rings again; shmring_live is 0 for a NAME without a ring. Anyone
    who can reach the port sees the names and labels of your rings: bind 127.0.0.1 where that matters.

    \b
    shmring metrics --listen 127.0.0.1:9100 &
    curl http://127.0.0.1:9100/metrics
    """  # noqa: D301  (\b keeps click from wrapping)
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server

    from shmring._cli.support.collector import RingCollector

    registry = CollectorRegistry()
    if listen is None:
        for name in chosen:
            found = look(name)
            if found.ring is None:
                raise Refusal(found.problem)
        registry.register(RingCollector(chosen))
        click.echo(generate_latest(registry).decode(), nl=False)
        return
    registry.register(RingCollector(chosen))
    host, port = listen
    with ended_by_signals():
        try:
            server, thread = start_http_server(port, host, registry)
        except (OSError, UnicodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "unknown host"
            raise Refusal(f"cannot listen at {host}:{port}: {said}") from None
        try:
            where = f"[{host}]" if ":" in host else host
            streams.say(f"shmring metrics: http://{where}:{server.server_port}/metrics")
            while True:
                signal.pause()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
