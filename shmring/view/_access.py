"""Who may look: a token, the Host that the browser asked for, the Origin of its scripts."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

__all__ = ["Access"]

SHORTEST = 16  # characters of a token
TICKET_SECONDS = 60.0  # in which a browser that was started must have asked for the page


class Access:
    """The token of one view, and the hosts that it answers to."""

    def __init__(self, token: str | None, hosts: Iterable[str]) -> None:
        self.token = secrets.token_urlsafe(24) if token is None else _check(token)
        if isinstance(hosts, str):
            raise TypeError(f"hosts is a list of names, not a str: [{hosts!r}]")
        self._hosts = {_named(host) for host in hosts}
        self._cookie = hmac.new(self.token.encode(), b"cookie", hashlib.sha256).hexdigest()
        self._tickets: dict[str, float] = {}

    def ticket(self) -> str:
        """Return what opens the page once, soon: for a browser, whose arguments other users can see."""
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = time.monotonic() + TICKET_SECONDS
        return ticket

    def wrong_host(self, scope: Scope) -> str | None:
        """Return the Host that was asked for if this view does not answer to it: a page of that name did."""
        said: str = Headers(scope=scope).get("host", "")
        host = _host_of(said)
        if host in self._hosts or host == "localhost" or host.endswith(".localhost"):
            return None
        server = scope.get("server") or ("", None)
        if _address(host) is not None and (_is_loopback(host) or _address(host) == _address(server[0])):
            return None
        return said

    def wrong_origin(self, scope: Scope) -> bool:
        """Whether another site's page asks. Programs that are no browsers send no Origin."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        site = None if origin is None else origin.lower().partition("://")[2]
        return site is not None and bool(site != headers.get("host", "").lower())

    def admits(self, scope: Scope) -> bool:
        """Whether the request has the cookie, or the token as programs send it."""
        headers = Headers(scope=scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self.token):
            return True
        # Not http.cookies: it finds none at all beside one that another server wrote in its own way.
        given = cookie_parser(headers.get("cookie", "")).get(self._cookie_name(scope), "")
        return _same(given, self._cookie)

    def admits_token(self, query: bytes) -> bool | None:
        """Whether the token of a query is right; None where there is none."""
        given = parse_qs(query.decode("latin-1")).get("token")
        if given is None:
            return None
        expires = self._tickets.pop(given[0], 0.0)
        return _same(given[0], self.token) or time.monotonic() < expires

    def cookie(self, scope: Scope, path: str) -> str:
        """Return the header that makes a browser remember."""
        secure = "; Secure" if scope["scheme"] in ("https", "wss") else ""
        name = self._cookie_name(scope)
        return f"{name}={self._cookie}; Path={path}; HttpOnly; SameSite=Strict{secure}"

    def _cookie_name(self, scope: Scope) -> str:
        """Name the cookie by the port: browsers keep those of one host together, whatever the port."""
        port = Headers(scope=scope).get("host", "").rpartition(":")[2]
        return f"shmring-view-{port}" if port.isdigit() else "shmring-view"


def _check(token: str) -> str:
    if len(token) < SHORTEST or not re.fullmatch(r"[\w.~-]+", token, re.ASCII):
        raise ValueError(
            f"a token has at least {SHORTEST} letters, digits or signs of - . _ ~; leave it out to have one "
            f"made"
        )
    return token


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), right.encode())


def _named(host: str) -> str:
    """Return a host that somebody named, without brackets and port."""
    bare = host.lower().strip("[]")
    name = bare if _address(bare) is not None else _host_of(host)
    if not name or "/" in name:
        raise ValueError(
            f"{host!r} is not a host: name it as browsers do, without http://, for example lab.example"
        )
    return name


def _host_of(said: str) -> str:
    """Return the name or address of a Host header, without the port."""
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::\d*)?", said.lower())
    return match[1] or match[2] or "" if match else ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback
