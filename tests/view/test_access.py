"""Who may look: the token, Host and Origin, and that the token is in no log."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra view")

import shmring.view
from support.viewing import Served

TOKEN = "right-and-long-enough"
PATHS = ["/", "/static/index.html", "/snapshot.npy?name=x", "/nothing"]


@pytest.fixture
def served(serve):
    return serve(["camera"], token=TOKEN, hosts=["camera.example"])


def refused(served, path, headers) -> int | None:
    """The status that a WebSocket is refused with; None if it is not."""
    from websockets.exceptions import InvalidStatus

    try:
        served.connect(path, headers)
    except InvalidStatus as error:
        return error.response.status_code
    return None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": f"shmring-view={TOKEN}"},
        {"Cookie": '=;\x01, a="b'},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer r\xefght"},
    ],
)
def test_nothing_is_there_without_the_token(served, path, headers):
    status, _, body = served.get(path, headers)
    assert status == 401
    assert b"shmring view" in body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_token_gives_a_cookie_and_an_address_without_it(served, method):
    status, headers, _ = served.get(f"/?token={TOKEN}", method=method)
    assert (status, headers["location"]) == (303, "./")
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert cookie.startswith(f"shmring-view-{served.port}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    status, headers, body = served.get("/", {"Cookie": "other=1; " + cookie.partition(";")[0]})
    assert status == 200
    assert b"<html" in body


def test_a_link_of_another_site_brings_the_cookie_too(served):
    status, headers, body = served.get(f"/?token={TOKEN}", {"Sec-Fetch-Site": "cross-site"})
    assert (status, headers["location"]) == (200, None)
    assert b"refresh" in body
    assert "SameSite=Strict" in headers["set-cookie"]


@pytest.mark.parametrize(
    "query", ["token=wrong", "token=", "token=right-and-long-enough2", "token=%ff", "a=1&token=wrong"]
)
def test_a_wrong_token_is_refused_with_the_cookie_too(served, query):
    cookie = served.get(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
    assert served.get(f"/?{query}")[0] in (401, 403)
    assert served.get("/?token=wrong", {"Cookie": cookie})[0] == 403


def test_a_ticket_opens_the_page_once(served):
    ticket = served.view.ticket()
    assert served.get(f"/?token={ticket}")[0] == 303
    assert served.get(f"/?token={ticket}")[0] == 403


def test_a_ticket_expires(served, monkeypatch):
    from shmring.view import _access

    monkeypatch.setattr(_access, "TICKET_SECONDS", -1)
    assert served.get(f"/?token={served.view.ticket()}")[0] == 403


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "LOCALHOST", "127.0.0.1:8420", "127.1.2.3", "[::1]:80",
             "a.localhost", "camera.example", "Camera.Example:8420"],
)  # fmt: skip
def test_it_answers_to_this_machine_and_to_names_given(served, host):
    assert served.get("/", {"Host": host, **served.bearer})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8420", "10.0.0.1", "[::2]:1", "", "127.0.0.1.evil.example", "[",
             "[::1", "localhost.evil.example", "0.0.0.0", "xcamera.example", "1", "2130706433"],
)  # fmt: skip
def test_it_does_not_answer_to_other_names(served, host):
    for path in PATHS:
        status, _, body = served.get(path, {"Host": host, **served.bearer})
        assert status == 403
        assert b"--allow-host" in body
    assert served.get(f"/?token={TOKEN}", {"Host": host})[0] == 403


@pytest.mark.parametrize("given", ["lab.example:8420", "LAB.example", "[fe80::5]:8420", "fe80::5"])
def test_a_host_can_be_named_as_the_refusal_shows_it(serve, given):
    served = serve(["camera"], hosts=[given])
    host = "[fe80::5]:80" if "fe80" in given else "lab.example:80"
    assert served.get("/", {"Host": host, **served.bearer})[0] == 200


@pytest.mark.parametrize("hosts", ["lab.example", ["http://lab.example"], ["lab.example/rings"], [""]])
def test_what_is_no_host_is_refused(hosts):
    with pytest.raises((TypeError, ValueError), match="host"):
        shmring.view.app(hosts=hosts)


def test_cookies_of_other_servers_on_this_machine_are_no_obstacle(served):
    cookie = served.get(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
    for other in ('prefs={"theme": "dark", "list": [1]}', "a b=c", "é=1", "bare", '"'):
        assert served.get("/", {"Cookie": f"{other}; {cookie}"})[0] == 200, other
        assert served.get("/", {"Cookie": f"{cookie}; {other}"})[0] == 200, other


@pytest.mark.parametrize("path", ["/ws/rings", "/ws/ring?name=camera"])
def test_a_websocket_needs_the_token_too(served, path):
    assert refused(served, path, {}) == 403
    assert refused(served, path, {"Authorization": "Bearer wrong"}) == 403
    assert refused(served, f"{path}{'&' if '?' in path else '?'}token={TOKEN}", {}) == 403
    assert refused(served, path, served.bearer) is None
    cookie = served.get(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
    assert refused(served, path, {"Cookie": cookie}) is None


@pytest.mark.parametrize("path", ["/ws/rings", "/ws/ring?name=camera"])
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", None), ("http://evil.example", 403), ("null", 403),
        ("http://127.0.0.1", 403), ("http://127.0.0.1:1", 403), ("http://localhost:{port}", 403),
        ("http://[", 403),
        ("", 403), ("file://", 403), ("http://127.0.0.1:{port}/evil", 403),
        ("http://u@127.0.0.1:{port}", 403),
    ],
)  # fmt: skip
def test_a_websocket_of_another_site_is_refused(served, path, origin, status):
    cookie = served.get(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
    headers = {"Cookie": cookie, "Origin": origin.format(port=served.port)}
    assert refused(served, path, headers) == status


def test_pages_load_nothing_from_elsewhere(served):
    _, headers, _ = served.get("/", served.bearer)
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["/static/../_app.py", "/static/%2e%2e/_app.py", "/static//etc/passwd", "/static/"]
)
def test_only_the_assets_are_served(served, path):
    assert served.get(path, served.bearer)[0] == 404


def test_the_token_is_in_no_log(name, capfd):
    """Of a server that logs everything that it is asked for, as uvicorn does by default."""
    from uvicorn.config import LOGGING_CONFIG

    server = Served(
        shmring.view.app([name], token=TOKEN), log_config=LOGGING_CONFIG, log_level="info", access_log=True
    )
    try:
        cookie = server.get(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
        server.get(f"/?token={TOKEN}-2")
        server.get(f"/x?a=1&token={TOKEN}&b=2")
        server.get("/", {"Cookie": cookie})
        refused(server, f"/ws/rings?token={TOKEN}", {})
        server.rings().next()
    finally:
        server.stop()
    said = "".join(capfd.readouterr())
    assert '"GET / HTTP/1.1" 303' in said
    assert "WebSocket /ws/rings" in said
    assert TOKEN not in said
    assert cookie.partition("=")[2] not in said


def test_tokens_are_long_and_never_the_same(serve):
    tokens = {shmring.view.app().token for _ in range(3)}
    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 32


@pytest.mark.parametrize("token", ["", "kurz", "ä" * 20])
def test_a_token_that_can_be_guessed_or_not_be_typed_is_refused(token):
    with pytest.raises(ValueError, match="token"):
        shmring.view.app(token=token)


def test_the_command_that_the_page_shows_for_your_own_application():
    from uvicorn.main import main

    page = (Path(__file__).parents[2] / "docs/how-to/view.md").read_text()
    arguments = re.search(r"`uvicorn (own_app:app [^`]*)`", page)[1].split()
    assert main.make_context("uvicorn", arguments).params["ws_per_message_deflate"] is False


def test_a_view_in_another_application(make, nothing_left_behind):
    from starlette.applications import Starlette
    from starlette.routing import Mount

    ring = make(shape=(20, 20), dtype="u1")
    view = shmring.view.app([ring.name])
    server = Served(Starlette(routes=[Mount("/rings", view)]), view=view, prefix="/rings")
    try:
        status, headers, _ = server.get(f"/?token={view.token}")
        assert (status, headers["location"]) == (303, "./")
        assert "Path=/rings/" in headers["set-cookie"]
        cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
        assert server.get("/", cookie)[0] == 200
        assert server.get("/static/index.html", cookie)[0] == 200
        assert server.get("/static/index.html")[0] == 401
        with ring.producer() as out:
            out.put(np.zeros((20, 20), "u1"))
            header, payload = server.page(ring.name, width=100).frame()
        assert (header["seq"], payload.shape) == (0, (20, 20))
    finally:
        server.stop()
