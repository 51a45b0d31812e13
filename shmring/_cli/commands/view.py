"""`shmring view`: frames live, in a browser."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path

import click

import shmring
from shmring._cli.support import names, streams, types
from shmring._cli.support.refusal import Refusal
from shmring._cli.support.signals import ended_by_signals

PORT = 8420
INSTALL = 'pip install "shmring[view]"'


@click.command()
@names.rings
@click.option(
    "--port",
    metavar="N",
    type=types.whole("port", 0, "a port, 0 to 65535", most=65535),
    default=PORT,
    help=f"Port to listen at (default {PORT}); 0: one that is free.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="Address to listen at (default 127.0.0.1: this machine only).",
)
@click.option(
    "--allow-host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="A name that browsers may use for this machine, beside localhost; may be given several times.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option(
    "--allow-record",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Let pages record into this folder (default: pages cannot write anything).",
)
def view(
    chosen: tuple[str, ...],
    port: int,
    host: str,
    hosts: tuple[str, ...],
    no_browser: bool,
    folder: Path | None,
) -> None:
    """Show the rings NAME, or all, in a browser: pictures, signals, tables and charts, live.

    It prints an address with a token, without which nobody sees anything, and opens it in your browser. It
    runs until Ctrl-C. Pages never hold a producer back: they get the newest frame when they have drawn the
    last one, and say how many they skipped.

    \b
    shmring view camera
    ssh -t -L 8420:localhost:8420 lab shmring view --no-browser
    """  # noqa: D301  (\b keeps click from wrapping)
    try:
        from shmring import view as viewer
        from shmring.view._server import make_server
    except ImportError as error:
        raise Refusal(f"shmring view needs {(error.name or '').partition('.')[0]}: {INSTALL}") from None

    shmring.survive_truncation()  # a file that is cut must not end the view of the other rings
    listening = _listen(host, port)
    try:
        address, port = listening.getsockname()[:2]
        wide = not ipaddress.ip_address(address).is_loopback
        name = _name(host, address)
        known = (*hosts, host, socket.gethostname()) if wide else (*hosts, host)
        app = viewer.app(chosen or None, hosts=known, allow_record=folder)
        base = f"http://{name}:{port}/?token="
        click.echo(f"shmring view: {base}{app.token}")
        sys.stdout.flush()
        if wide:
            streams.say(
                f"shmring view: everyone who can reach {address} may ask for this page, and who reads along "
                f"on the network sees token and frames: use it in networks that you trust, or behind ssh"
            )
        if not no_browser:
            _open_browser(base + app.ticket())
        with ended_by_signals():
            make_server(app).run([listening])
    finally:
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refusal(f"{host!r} is not an address of this machine") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise Refusal(
                f"port {port} of {host} is in use, maybe by another shmring view: end it, or choose another "
                f"port (--port 0 takes one that is free)"
            ) from None
        raise Refusal(f"cannot listen at port {port} of {host}: {error.strerror}") from None
    return listening


def _name(host: str, address: str) -> str:
    """Return what a browser calls this machine."""
    if ipaddress.ip_address(address).is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _open_browser(address: str) -> None:
    """Open the page where there is a desktop; a browser in the terminal would take it."""
    if any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
