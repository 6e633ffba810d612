"""crest.app: plain GET and HEAD requests beside the WebSocket, over real sockets."""

import asyncio
import gc
import io
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.client import KEY, connect, handshake, request, tcp
from support.deadlines import Deadlines
from support.events import KINDS, Events, Gate, of_kind, on_each_loop, until
from support.pages import get

from crest import App, Request, Response, WebSocketServer
from crest.http.messages import FileResponse

RESULTS = {
    "str": ("<p>é</p>", 200, "text/html; charset=utf-8", "<p>é</p>".encode()),
    "empty str": ("", 200, None, b""),
    "bytes": (b"\x00\xff", 200, "application/octet-stream", b"\x00\xff"),
    "bytearray": (bytearray(b"x"), 200, "application/octet-stream", b"x"),
    "dict": ({"a": [1, None, "é"]}, 200, "application/json", '{"a":[1,null,"é"]}'.encode()),
    "empty dict": ({}, 200, "application/json", b"{}"),
    "Response": (Response("gone", 410, {"X-Why": "so"}, "text/plain"), 410, "text/plain; charset=utf-8", b"gone"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RESULTS)
@on_each_loop
async def test_a_page_is_what_its_handler_returns(kind: str, name: str) -> None:
    result, status, content_type, body = RESULTS[name]
    app = App()
    app.get("/")(of_kind(kind, lambda request: result))
    answer = await get(app)
    assert (answer.status, answer.headers.get("content-type"), answer.body) == (status, content_type, body)
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers.get("x-why") == ("so" if name == "Response" else None)


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_the_handler_gets_the_request(kind: str) -> None:
    app, events = App(), Events()

    def page(request: Request) -> str:
        events.add(request.method, request.path, request.query["x"], request.headers["x-one"], request.cookies)
        assert request.client is not None
        assert request.client[0] == "127.0.0.1"
        return ""

    app.get("/a b")(of_kind(kind, page))
    await get(app, "/a%20b?x=1", **{"X-One": "1", "Cookie": "c=d"})
    assert events.seen == [("GET", "/a b", "1", "1", {"c": "d"})]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_head_gets_the_headers_of_get_without_its_content(kind: str) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: "x" * 1000))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/", method="HEAD") + request("/"))
        head, whole = await client.answer(head_only=True), await client.answer()
    assert head.headers == whole.headers
    assert (head.status, whole.status) == (200, 200)
    assert whole.headers["content-length"] == "1000"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@on_each_loop
async def test_other_methods_get_405(method: str) -> None:
    app = App()
    app.get("/")(lambda request: "page")
    answer = await get(app, method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


@on_each_loop
async def test_an_unknown_path_gets_404() -> None:
    app = App()
    app.get("/page")(lambda request: "page")
    assert (await get(app, "/other")).status == 404


@on_each_loop
async def test_get_is_a_decorator_that_returns_the_handler_and_replaces_the_one_before() -> None:
    app = App()

    @app.get("/")
    def first(request: Request) -> str:
        return "first"

    @app.get("/")
    def second(request: Request) -> str:
        return "second" + first(request)

    assert (await get(app)).body == b"secondfirst"


@on_each_loop
async def test_a_page_may_be_registered_while_the_app_runs() -> None:
    app = App()
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        assert (await client.answer()).status == 404
        app.get("/")(lambda request: "late")
        await client.send(request("/"))
        assert (await client.answer()).body == b"late"


@on_each_loop
async def test_a_page_may_share_the_path_of_a_websocket() -> None:
    app, ws = App(), WebSocketServer("/")
    ws.on_connect(lambda conn: conn.send("socket"))
    app.get("/")(lambda request: "page")
    async with app.listening() as server, tcp(server) as client, connect(server, "/") as peer:
        await client.send(request("/"))
        assert (await client.answer()).body == b"page"
        assert await peer.recv() == "socket"


@on_each_loop
async def test_an_upgrade_request_for_a_page_is_answered_with_the_page() -> None:
    """A server may ignore Upgrade (RFC 9110 section 7.8); a WebSocket client takes it as a refusal."""
    app = App()
    app.get("/page")(lambda request: request.headers["Sec-WebSocket-Key"])
    async with app.listening() as server, tcp(server) as client:
        await client.send(handshake("/page"))
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, KEY.encode())


# ---- What handlers raise ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_an_exception_gets_500_and_is_logged_with_its_traceback(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, exception = App(), ValueError("secret")

    def broken(request: Request) -> str:
        raise exception

    app.get("/")(of_kind(kind, broken))
    answer = await get(app)
    assert answer.status == 500
    assert b"secret" not in answer.body
    (record,) = [record for record in caplog.records if record.name == "crest" and record.levelno == logging.ERROR]
    assert "GET /" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is exception


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, StopIteration])
@on_each_loop
async def test_nothing_that_a_page_raises_stops_the_server(kind: str, exception: type[BaseException]) -> None:
    app = App()

    def broken(request: Request) -> str:
        raise exception

    app.get("/broken")(of_kind(kind, broken))
    app.get("/")(lambda request: "page")
    async with app.listening() as server:
        async with tcp(server) as client:
            await client.send(request("/broken"))
            assert (await client.answer()).status == 500
        async with tcp(server) as client:
            await client.send(request("/"))
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [None, 1, ["x"], object(), {"a": object()}, {"a": float("nan")}])
@on_each_loop
async def test_a_result_that_is_no_page_gets_500(kind: str, wrong: Any) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: wrong))
    assert (await get(app)).status == 500


# ---- Pages that take too long ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@on_each_loop
async def test_a_page_that_takes_too_long_is_cancelled_and_the_client_gets_503(
    method: str, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, cancelled = App(page_timeout=0.1), asyncio.Event()

    @app.get("/slow")
    async def slow(request: Request) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "late"

    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening(direct=direct) as server, tcp(server) as client:
            await client.send(request("/slow?a=1", method=method))
            answer = await client.answer(head_only=method == "HEAD")
            assert (answer.status, answer.headers["connection"], answer.headers["retry-after"]) == (503, "close", "5")
            if method == "GET":
                assert answer.body == b"'/slow?a=1' has had no response within 0.1 s\n"
            assert await client.eof() == b""
            await until(cancelled)
    assert app.refused == {"page_timeout": 1}
    assert any("503, '/slow?a=1' has had no response within 0.1 s" in message for message in caplog.messages)


@pytest.mark.parametrize("late", ["page", "file", "error"])
@on_each_loop
async def test_a_page_that_ignores_its_cancellation_comes_too_late(
    late: str, direct: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, release, ended = App(page_timeout=0.1), asyncio.Event(), asyncio.Event()
    (tmp_path / "file").write_bytes(b"late")
    file = io.FileIO(tmp_path / "file")

    @app.get("/slow")
    async def slow(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await until(release)
        ended.set()
        if late == "error":
            raise ValueError("late")
        return FileResponse(file, 4, "file") if late == "file" else Response("late")

    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/slow"))
        assert (await client.answer()).status == 503
        release.set()
        await until(ended)
        assert await client.eof() == b""
    gc.collect()
    assert file.closed or late != "file"
    raised = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert raised == (["late"] if late == "error" else [])
    file.close()


@on_each_loop
async def test_a_file_that_becomes_shorter_while_it_is_sent_ends_its_connection(
    direct: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its length was said, so the client must not take the next response for the rest of it."""
    (tmp_path / "file").write_bytes(b"cut short")
    file = io.FileIO(tmp_path / "file")
    app = App()

    @app.get("/file")
    async def shrunk(request: Request) -> Response:
        return FileResponse(file, 100, "file")

    app.get("/next")(lambda request: "next")
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/file"), request("/next"))
        with suppress(ConnectionError):
            received = await client.eof()
            assert b"Content-Length: 100\r\n" in received
            assert b"next" not in received
    assert file.closed
    assert any("GET /file: file became 91 bytes shorter while it was sent" in each for each in caplog.messages)


@pytest.mark.parametrize("page_timeout", [None, 77.0])
@on_each_loop
async def test_the_time_of_a_page_is_its_own(page_timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with the request, and is over with the response; that of the next request follows."""
    app, gate = App(page_timeout=page_timeout, open_timeout=55.0, keep_alive_timeout=66.0), Gate()
    app.get("/")(gate.before(lambda request: "page"))
    app.get("/plain")(lambda request: "page")
    deadlines = Deadlines(monkeypatch)
    async with app.listening(direct=False) as server, tcp(server) as client:
        await deadlines.until([55.0])
        for path, expected in (("/plain", []), ("/", [] if page_timeout is None else [page_timeout, 0])):
            gate.open()
            await client.send(request(path))
            assert (await client.answer()).body == b"page"
            await deadlines.until([0, *expected, 66.0])
    assert app.refused == {}


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "60"])
def test_page_timeout_is_a_time(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="page_timeout must be"):
        App(page_timeout=wrong)
