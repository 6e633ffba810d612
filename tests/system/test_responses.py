"""Every response, wherever it comes from, as a strict HTTP client reads it: h11, which shares no code with crest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h11
import pytest
from support.certificates import Pair
from support.client import handshake, request, tcp, upgraded
from support.events import on_each_loop

from crest import App, Reject, Request, Response, WebSocketServer
from crest.io.loop.poller import Poller

METHODS = ["GET", "HEAD"]


class Read(NamedTuple):
    """A response as h11 has read it."""

    status: int
    headers: dict[str, str]
    content: bytes


def read(received: bytes, method: str = "GET") -> Read:
    """Read the last response of a connection, to a request by this method: nothing else may have come.

    Raises:
        h11.RemoteProtocolError: It is malformed, or there is more behind it.
    """
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(received)
    client.receive_data(b"")
    response, content = client.next_event(), b""
    assert isinstance(response, h11.Response)
    assert response.http_version == b"1.1"
    while isinstance(event := client.next_event(), h11.Data):
        content += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert isinstance(client.next_event(), h11.ConnectionClosed)
    headers = {name.decode(): value.decode("latin-1") for name, value in response.headers}
    assert len(headers) == len(response.headers), "a header is repeated"
    return Read(response.status_code, headers, content)


@pytest.mark.parametrize(
    "malformed",
    [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\nHTTP/1.1 408 Request Timeout\r\n",
    ],
)
def test_the_reader_is_strict(malformed: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        read(malformed, "HEAD")


# ---- What an application and its requests bring about ---------------------------------------------------------------


def served(directory: Path, **options: object) -> App:
    """An app with something of every kind."""
    app = App(max_header_size=2000, max_headers=20, hosts=["test"], **options)  # type: ignore[arg-type]
    (directory / "below").mkdir()
    (directory / "below" / "index.html").write_text("index")
    (directory / "file.txt").write_text("0123456789")
    app.static("/files", directory)
    results = {
        "text": "<p>page</p>",
        "bytes": b"\x00",
        "json": {"a": 1},
        "empty": "",
        "gone": Response("gone", 410),
        **{str(status): Response("nothing", status) for status in (204, 205, 304)},
    }

    @app.get("/page")
    def page(request: Request) -> object:
        return results[request.query["is"]]

    @app.get("/later")
    async def later(request: Request) -> object:
        await asyncio.sleep(0)
        return results[request.query["is"]]

    WebSocketServer("/ws")
    WebSocketServer("/full", max_connections=1)
    WebSocketServer("/mine", max_connections_per_ip=1)
    WebSocketServer("/paced", max_connect_rate_per_ip=(1e-6, 1))
    for path, error in (("/reject", Reject(401, "who?")), ("/raise", ValueError("broken"))):

        def decide(request: Request, error: Exception = error) -> None:
            raise error

        WebSocketServer(path).on_upgrade(decide)
    return app


Case = tuple[Callable[[str], bytes], int, int]
"""A request by some method, and what it is answered with: by GET, and by HEAD."""


def plain(path: str, status: int, by_head: int | None = None, **headers: str) -> Case:
    fields = {
        "Host": "test",
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return lambda method: request(path, fields, method), status, by_head or status


def upgrade(status: int, path: str = "/ws", **changed: str | None) -> Case:
    """An opening handshake; one by HEAD is none, and gets 400."""
    fields = {name.replace("_", "-"): value for name, value in changed.items()}
    return lambda method: handshake(path, fields, method), status, 400


def raw(text: str, status: int) -> Case:
    return lambda method: text.format(method=method).encode(), status, status


CASES = {
    "text": plain("/page?is=text", 200),
    "bytes": plain("/page?is=bytes", 200),
    "JSON": plain("/page?is=json", 200),
    "nothing": plain("/page?is=empty", 200),
    "gone": plain("/page?is=gone", 410),
    "204": plain("/page?is=204", 204),
    "205": plain("/page?is=205", 205),
    "304": plain("/page?is=304", 304),
    "raises": plain("/page?is=?", 500),
    "later": plain("/later?is=text", 200),
    "204 later": plain("/later?is=204", 204),
    "raises later": plain("/later?is=?", 500),
    "no page": plain("/nowhere", 404),
    "with a body": plain("/page?is=text", 200, Content_Length="5"),
    "file": plain("/files/file.txt", 200),
    "part of a file": plain("/files/file.txt", 206, 200, Range="bytes=2-4"),
    "not in a file": plain("/files/file.txt", 416, 200, Range="bytes=99-"),
    "file that is known": plain("/files/file.txt", 304, If_None_Match="*"),
    "no file": plain("/files/other", 404),
    "directory": plain("/files/below", 301),
    "index": plain("/files/below/", 200),
    "static prefix": plain("/files", 308),
    "no upgrade": plain("/ws", 426),
    "another host": plain("/page?is=text", 421, Host="other"),
    "no host": raw("{method} /page HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    "two hosts": raw("{method} /page HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n", 400),
    "fragment": raw("{method} /page#x HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "no path": raw("{method} * HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "malformed": raw("{method} /page HTTP/1.1\r\nHost : test\r\n\r\n", 400),
    "too long": raw("{method} /page HTTP/1.1\r\nX: " + "y" * 3000, 431),
    "too many": raw("{method} /page HTTP/1.1\r\n" + "X: y\r\n" * 30 + "\r\n", 431),
    "another HTTP": raw("{method} /page HTTP/2.0\r\nHost: test\r\n\r\n", 505),
    "HTTP/1.0": raw("{method} /page?is=text HTTP/1.0\r\nHost: test\r\n\r\n", 200),
    "upgrade by HTTP/1.0": raw("{method} /ws HTTP/1.0\r\nHost: test\r\nUpgrade: websocket\r\n\r\n", 400),
    "no key": upgrade(400, Sec_WebSocket_Key=None),
    "another version": upgrade(426, Sec_WebSocket_Version="12"),
    "upgrade with a fragment": upgrade(400, "/ws#x"),
    "upgrade for another host": (lambda method: handshake("/ws", {"Host": "other"}, method), 421, 421),
    "origin": upgrade(403, Origin="http://other"),
    "max_connections": upgrade(503, "/full"),
    "max_connections_per_ip": upgrade(429, "/mine"),
    "max_connect_rate_per_ip": upgrade(429, "/paced"),
    "Reject": upgrade(401, "/reject"),
    "on_upgrade raises": upgrade(500, "/raise"),
}


def assert_is(response: Read, method: str, status: int) -> None:
    assert response.status == status
    assert "close" in response.headers["connection"]
    if method == "HEAD" or status in (204, 205, 304):
        assert response.content == b""
    elif status >= 400:
        assert response.content


@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_a_strict_client_reads_each(method: str, tmp_path: Path) -> None:
    async with served(tmp_path).listening() as server:
        async with upgraded(server, "/full"), upgraded(server, "/mine"), upgraded(server, "/paced"):
            for case, (data, *statuses) in CASES.items():
                async with tcp(server) as client:
                    await client.send(data(method))
                    received = await client.eof()
                try:
                    assert_is(read(received, method), method, statuses[METHODS.index(method)])
                except (AssertionError, h11.RemoteProtocolError) as error:
                    error.add_note(f"{case}: {received[:500]!r}")
                    raise


@pytest.mark.parametrize("path", ["/page", "/files/file.txt"])
@on_each_loop
async def test_a_method_that_is_none_of_both(path: str, tmp_path: Path) -> None:
    async with served(tmp_path).listening() as server, tcp(server) as client:
        await client.send(request(path, {"Host": "test", "Connection": "close"}, "POST"))
        response = read(await client.eof(), "POST")
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")


@on_each_loop
async def test_a_refusal_behind_another_request_is_of_its_own_method(tmp_path: Path) -> None:
    async with served(tmp_path).listening() as server:
        for first, second in (("GET", "HEAD"), ("HEAD", "GET")):
            async with tcp(server) as client:
                await client.send(request("/page?is=text", method=first) + request("/ws", method=second))
                answer = await client.answer(head_only=first == "HEAD")
                assert answer.status == 200
                assert_is(read(await client.eof(), second), second, 426)


# ---- What time and other clients bring about -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_a_request_that_is_not_complete_in_time(method: str, direct: bool) -> None:
    async with App(open_timeout=0.05).listening(direct=direct) as server, tcp(server) as client:
        await client.send(f"{method} / HTTP/1.1\r\n".encode())
        assert_is(read(await client.eof(), method), method, 408)


@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_a_head_that_comes_in_pieces(method: str, direct: bool) -> None:
    async with App().listening(direct=direct) as server, tcp(server) as client, tcp(server) as other:
        for piece in (b"\r\n", method[:2].encode(), f"{method[2:]} / HTTP/1.1\r\n".encode()):
            await client.send(piece)
            await other.send(request("/"))  # until the server has read the piece
            await other.answer()
        await client.send(b"no header\r\n\r\n")
        assert_is(read(await client.eof(), method), method, 400)


@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_a_page_that_takes_too_long(method: str, direct: bool) -> None:
    app = App(page_timeout=0.05)

    @app.get("/")
    async def page(request: Request) -> None:
        await asyncio.get_running_loop().create_future()

    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/", method=method))
        assert_is(read(await client.eof(), method), method, 503)


@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_too_much_waits_in_all(method: str, direct: bool) -> None:
    """The budget refuses a request that is not complete; what it has begun with is known."""
    async with App(max_backlog_total=10_000).listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/" + "x" * 11_000, method=method)[:-2])
        assert_is(read(await client.eof(), method), method, 503)


@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_a_server_that_shuts_down(method: str, direct: bool) -> None:
    app, ws = App(close_rate=0.001, shutdown_timeout=3000), WebSocketServer()
    app.get("/")(lambda request: "page")
    async with app.listening(direct=direct) as server:
        async with upgraded(server, ws.path) as first, upgraded(server, ws.path):
            stopping = asyncio.create_task(server.stop())
            await first.frame()
            async with tcp(server) as client:
                await client.send(request("/", method=method))
                assert_is(read(await client.eof(), method), method, 503)
            server.hurry()
        await stopping


@pytest.mark.skipif(not Poller.exists, reason="there, what is not TLS is only cut off")
@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_plain_text_where_tls_is_spoken(method: str, pair: Pair) -> None:
    async with App().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server, tcp(server) as client:
        await client.send(request("/", method=method))
        assert_is(read(await client.eof(), method), method, 400)


# ---- HTTP/1.0 --------------------------------------------------------------------------------------------------------


def old(path: str = "/", *headers: str, method: str = "GET") -> bytes:
    """A request of HTTP/1.0."""
    return "\r\n".join([f"{method} {path} HTTP/1.0", *headers, "", ""]).encode()


def paged(**options: object) -> App:
    app = App(**options)  # type: ignore[arg-type]
    app.get("/")(lambda request: "page")
    app.get("/old")(lambda request: request.headers.get("Host", "none"))
    return app


@pytest.mark.parametrize("headers", [[], ["Connection: close"], ["Connection: keep-alive, close"], ["X: keep-alive"]])
@pytest.mark.parametrize("method", METHODS)
@on_each_loop
async def test_http_1_0_needs_no_host_and_closes(method: str, headers: list[str]) -> None:
    async with paged().listening() as server, tcp(server) as client:
        await client.send(old("/old", *headers, method=method))
        response = read(await client.eof(), method)
        assert (response.status, response.headers["content-length"]) == (200, "4")
        assert response.headers["connection"] == "close"
        assert response.content == (b"" if method == "HEAD" else b"none")


@pytest.mark.parametrize("option", ["keep-alive", "Keep-Alive", "x, KEEP-ALIVE"])
@on_each_loop
async def test_http_1_0_may_ask_to_be_kept(option: str, direct: bool) -> None:
    async with paged().listening(direct=direct) as server, tcp(server) as client:
        for _ in range(3):
            await client.send(old("/", f"Connection: {option}"))
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"page", "keep-alive")
        await client.send(old("/"))
        assert read(await client.eof()).content == b"page"


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
@on_each_loop
async def test_http_1_0_is_not_kept_behind_a_body(framing: str) -> None:
    """Nothing behind the head may be taken for a request (RFC 9112 section 6.1)."""
    async with paged().listening() as server, tcp(server) as client:
        await client.send(old("/", "Connection: keep-alive", framing) + old("/old"))
        received = await client.eof()
    assert received.count(b"HTTP/1.1 ") == 1
    assert read(received).headers["connection"] == "close"


@pytest.mark.parametrize(
    "headers", [["Host: a", "Host: b"], ["Host:"], ["Host: a b"], ["Host: a:65536"], ["Host: a", "Host: a"]]
)
@on_each_loop
async def test_a_host_that_http_1_0_sends_must_be_one(headers: list[str]) -> None:
    async with paged().listening() as server, tcp(server) as client:
        await client.send(old("/", *headers))
        assert read(await client.eof()).status == 400


@on_each_loop
async def test_an_upgrade_by_http_1_0_is_refused() -> None:
    """RFC 6455 section 4.1 wants 1.1 or higher, and whatever else is wrong, that is said."""
    ws = WebSocketServer()
    async with paged().listening() as server:
        for host in ("test", None):
            async with tcp(server) as client:
                await client.send(handshake(changed={"Host": host}).replace(b"HTTP/1.1", b"HTTP/1.0"))
                response = read(await client.eof())
                assert response.status == 400
                assert response.content == b"an opening handshake takes HTTP/1.1, not HTTP/1.0\n"
    assert ws.refused == {"handshake": 2}


@on_each_loop
async def test_with_hosts_a_request_for_none_is_misdirected(caplog: pytest.LogCaptureFixture) -> None:
    app, ws = paged(hosts=["test"]), WebSocketServer()
    upgrading = handshake(changed={"Host": None}).replace(b"HTTP/1.1", b"HTTP/1.0")
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening() as server:
            for data, status in (
                (old("/"), 421),
                (upgrading, 421),
                (old("/", "Host: test"), 200),
                (old("http://test/"), 200),
                (old("http://other/", "Host: test"), 421),
            ):
                async with tcp(server) as client:
                    await client.send(data)
                    response = read(await client.eof())
                    assert response.status == status
    assert app.refused == {"host": 2} and ws.refused == {"host": 1}
    assert any("the request has no Host" in message for message in caplog.messages)
