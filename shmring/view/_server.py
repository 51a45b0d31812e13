"""Serves a view with uvicorn, with the settings that frames need."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from shmring.view._app import View
from shmring.view._sessions import LONGEST

__all__ = ["make_server"]

PATIENCE = 2.0  # seconds that the end of the server waits for answers that are being sent


class Protocol(WebSocketsSansIOProtocol):  # type: ignore[misc]  # Any where uvicorn is missing
    """A WebSocket that the end of the server does not wait for."""

    def shutdown(self) -> None:
        """Close; at once if the page does not read what it was sent, or is leaving itself."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()  # uvicorn would wait for it, or raise
        else:
            super().shutdown()


class Server(uvicorn.Server):  # type: ignore[misc]
    """A server that a signal may end before it runs."""

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes."""
        serving = self.serve(sockets)
        try:
            with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
                runner.run(serving)
        finally:
            serving.close()  # else Python warns that nobody awaited it


def make_server(view: View, **settings: object) -> Server:
    """Return a server of a view, to be run; with `settings` of uvicorn."""
    config = {
        "access_log": False,
        "log_config": None,
        "log_level": "critical",
        "server_header": False,
        "timeout_graceful_shutdown": PATIENCE,
        "ws": Protocol,
        "ws_max_size": LONGEST,
        "ws_per_message_deflate": False,
        **settings,
    }
    return Server(uvicorn.Config(view, **config))
