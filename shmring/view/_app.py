"""The ASGI application: the page, its WebSockets, and who may have them."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from shmring import _names
from shmring._words import clean
from shmring.view._access import Access
from shmring.view._hub import Hub
from shmring.view._recordings import Recordings
from shmring.view._rings import Watcher, name_of
from shmring.view._sessions import RingSession, RingsSession

__all__ = ["View", "app"]

STATIC = Path(str(files("shmring.view") / "static"))
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'"
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
NO_TOKEN = (
    "This page needs its token: open the address that `shmring view` prints, with ?token=… at its end. "
    "A token is valid until its server ends."
)


class View:
    """An ASGI application that shows rings: from `app`.

    Attributes
    ----------
    token : str
        Open the page with ``?token=`` and this at the end of its address; a cookie remembers it. Programs
        send it as ``Authorization: Bearer TOKEN``.
    """

    def __init__(
        self,
        names: Iterable[str] | None,
        token: str | None,
        hosts: Iterable[str],
        allow_record: str | os.PathLike[str] | None,
    ) -> None:
        if isinstance(names, str):
            raise TypeError(f"names is a list of names, not a str: [{names!r}]")
        chosen = None if names is None else tuple(dict.fromkeys(map(_names.check_name, names)))
        self._access = Access(token, hosts)
        self._names = chosen
        self._watcher = Watcher(chosen)
        self._recordings = Recordings(
            None if allow_record is None else Path(allow_record).resolve(strict=True)
        )
        self._hubs: dict[str, Hub] = {}
        self._routes = Starlette(
            routes=[
                Route("/", self._page),
                Route("/snapshot.npy", self._snapshot),
                WebSocketRoute("/ws/rings", self._ws_rings),
                WebSocketRoute("/ws/ring", self._ws_ring),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )
        weakref.finalize(self, self._recordings.close)  # no recording is cut off at the end of the process

    @property
    def token(self) -> str:
        """The token."""
        return self._access.token

    def ticket(self) -> str:
        """Return what opens the page once within a minute, in place of the token."""
        return self._access.ticket()

    def close(self) -> None:
        """End its recordings. A server that runs the lifespan of applications does this itself."""
        self._recordings.close()

    def _hub(self, identifier: str) -> Hub:
        """Return the hub of a ring.

        Raises
        ------
        ValueError
            There is no such name, or this view does not show it.
        """
        name = name_of(identifier)
        if self._names is not None and name not in self._names:
            raise ValueError(f"ring {clean(name)!r} is not shown here")
        return self._hubs.setdefault(name, Hub(name))

    # ---- ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, if it may be answered."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        query = scope.get("query_string", b"")
        if b"token=" in query:
            scope["query_string"] = b""  # servers write the address into their log once they answer
        answer = self._refusal(scope, query)
        if answer is None:
            await self._routes(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            await answer(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 4403, "reason": ""})

    def _refusal(self, scope: Scope, query: bytes) -> ASGIApp | None:
        """Return what is answered in place of what was asked for, None to those who may have it."""
        host = self._access.wrong_host(scope)
        if host is not None:
            return PlainTextResponse(
                f"This server does not answer to the host {clean(host)!r}: name it with --allow-host.\n", 403
            )
        if scope["type"] == "websocket":
            admitted = self._access.admits(scope) and not self._access.wrong_origin(scope)
            return None if admitted else PlainTextResponse("", 403)
        right = self._access.admits_token(query)
        if right:
            return self._remember(scope)
        if right is None and self._access.admits(scope):
            return None
        return PlainTextResponse(NO_TOKEN + "\n", 401 if right is None else 403)

    def _remember(self, scope: Scope) -> Response:
        """Give the browser the cookie, and send it to the address without the token."""
        base = scope.get("root_path", "").rstrip("/") + "/"
        headers = {"set-cookie": self._access.cookie(scope, base)}
        if dict(scope["headers"]).get(b"sec-fetch-site") != b"cross-site":
            return RedirectResponse("./", 303, headers)
        # A redirect after a link of another site would not bring the cookie; a page of this one does.
        return HTMLResponse('<meta http-equiv="refresh" content="0;url=./">', headers=headers)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.close()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    # ---- routes

    async def _page(self, request: Request) -> Response:
        return HTMLResponse((STATIC / "index.html").read_text())

    async def _ws_rings(self, socket: WebSocket) -> None:
        await RingsSession(socket, self._watcher, self._recordings).run()

    async def _ws_ring(self, socket: WebSocket) -> None:
        try:
            hub = self._hub(_parameter(socket.scope, "name"))
        except ValueError as error:
            await RingSession.refuse(socket, str(error))
            return
        await RingSession(socket, hub, self._recordings).run()

    async def _snapshot(self, request: Request) -> Response:
        """Send the frame that a page has on show."""
        try:
            hub = self._hub(_parameter(request.scope, "name"))
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 404)
        client = hub.find(_parameter(request.scope, "client"))
        shot = client.shown if client is not None else None
        array = shot.array if shot is not None else None
        if shot is None or array is None:
            return PlainTextResponse("this page has no frame on show\n", 404)
        file = f"{_parameter(request.scope, 'name')}-{shot.seq}.npy"
        return StreamingResponse(
            await asyncio.to_thread(_npy, array),
            media_type="application/octet-stream",
            headers={"content-disposition": f"attachment; filename*=UTF-8''{file}"},
        )


def _parameter(scope: Scope, name: str) -> str:
    """Return a parameter of the address, still percent-encoded: names of rings are any bytes."""
    for part in scope["query_string"].decode("latin-1").split("&"):
        key, _, value = part.partition("=")
        if key == name:
            return str(value).replace("+", "%20")
    return ""


def _npy(array: np.ndarray[Any, Any]) -> Iterable[bytes]:
    is_ascii = repr(np.lib.format.dtype_to_descr(array.dtype)).isascii()  # names of fields are any text
    file = _Chunks()
    np.lib.format.write_array(file, array, version=(2, 0) if is_ascii else (3, 0), allow_pickle=False)
    return file


class _Chunks(list[bytes]):
    """What numpy writes to."""

    def write(self, data: bytes) -> None:
        """Take it."""
        self.append(data)


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
            message["headers"] = [*message.get("headers", ()), *added]
        await send(message)

    return send_with_headers


def app(
    names: Iterable[str] | None = None,
    *,
    token: str | None = None,
    hosts: Iterable[str] = (),
    allow_record: str | os.PathLike[str] | None = None,
) -> View:
    """Make an ASGI application that shows rings live, to be served or mounted: ``shmring view`` serves it.

    Parameters
    ----------
    names : iterable of str, optional
        The rings to show; default: all of this machine that this user can read.
    token : str, optional
        What opens the page; default: a random one. It is the attribute `token` of what is returned.
    hosts : iterable of str
        Names that browsers may ask for beside localhost, as in ``camera.example``.
    allow_record : path-like, optional
        The folder that pages may record into; default: pages cannot write.

    Returns
    -------
    View
        The ASGI application.

    Examples
    --------
    >>> import shmring.view
    >>> view = shmring.view.app(["camera"])
    >>> # starlette: app.mount("/rings", view); then open /rings/?token=… with view.token
    """
    return View(names, token, hosts, allow_record)
