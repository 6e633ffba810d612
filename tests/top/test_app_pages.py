"""crest.app: plain GET and HEAD requests beside the WebSocket, over real sockets."""

import asyncio
import gc
import io
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.client import GUARD, KEY, Answer, connect, frame, handshake, request, tcp
from support.deadlines import Deadlines
from support.events import KINDS, Events, Gate, of_kind, on_each_loop, until

from crest import App, Request, Response, WebSocketServer
from crest.http.messages import FileResponse
from crest.opening.opening import AT_ONCE


async def get(app: App, path: str = "/", method: str = "GET", **headers: str) -> Answer:
    """The app's answer to one request."""
    async with app.listening() as server, tcp(server) as client:
        await client.send(request(path, {"Host": "test", **headers}, method))
        return await client.answer(head_only=method == "HEAD")


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


# ---- One connection, many requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_connection_is_kept_for_further_requests(kind: str) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: request.query["n"]))
    async with app.listening() as server, tcp(server) as client:
        for n in (b"1", b"2", b"3"):
            await client.send(request(f"/?n={n.decode()}"))
            answer = await client.answer()
            assert answer.body == n
            assert "connection" not in answer.headers


@pytest.mark.parametrize("order", ["pp", "aa", "pa", "ap", "papaap"])
@on_each_loop
async def test_pipelined_requests_are_answered_in_their_order(order: str) -> None:
    app = App()
    for kind in KINDS:
        app.get(f"/{kind[0]}")(of_kind(kind, lambda request: request.query["n"]))
    async with app.listening() as server, tcp(server) as client:
        await client.send(*(request(f"/{kind}?n={n}") for n, kind in enumerate(order)))
        assert [(await client.answer()).body for _ in order] == [b"%d" % n for n in range(len(order))]


MANY = 1000
"""Requests, more than are answered in one turn of the loop."""


def counting(app: App) -> list[bytes]:
    """Requests whose pages are their numbers."""
    app.get("/")(lambda request: request.query["n"])
    return [request(f"/?n={n}") for n in range(MANY)]


@on_each_loop
async def test_many_pipelined_requests_leave_the_loop_to_others(direct: bool) -> None:
    app, turns, loop = App(), Events(), asyncio.get_running_loop()

    def page(request: Request) -> str:
        loop.call_soon(turns.add, "turn")
        turns.add("page")
        return "page"

    app.get("/")(page)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/") * MANY)
        for _ in range(MANY):
            assert (await client.answer()).body == b"page"
    runs = " ".join(turns.seen).replace(" ", "").split("turn")
    assert max(run.count("page") for run in runs) <= AT_ONCE


@on_each_loop
async def test_many_pipelined_requests_are_answered_in_their_order(direct: bool) -> None:
    app = App()
    requests = counting(app)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(b"".join(requests)[:-1])
        client.writer.write(requests[-1][-1:])
        client.writer.write_eof()
        assert [(await client.answer()).body for _ in range(MANY)] == [b"%d" % n for n in range(MANY)]
        assert await client.eof() == b""


@on_each_loop
async def test_a_handshake_may_follow_many_pipelined_requests(direct: bool) -> None:
    app, ws = App(), WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    requests = counting(app)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(b"".join(requests) + handshake() + frame(1, b"hello"))
        for _ in range(MANY):
            assert (await client.answer()).status == 200
        assert (await client.answer(head_only=True)).status == 101
        assert (await client.frame()).payload == b"hello"


@on_each_loop
async def test_shutdown_among_pipelined_requests_ends_behind_a_response(direct: bool) -> None:
    app, stopping = App(), Events()

    def page(request: Request) -> str:
        if not stopping.seen:
            stopping.add(asyncio.get_running_loop().create_task(server.stop()))
        return "page"

    app.get("/")(page)
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/") * MANY)
        whole = await client.eof()
    assert 0 < whole.count(b"HTTP/1.1 200 ") < MANY
    assert whole.endswith(b"page")


@on_each_loop
async def test_a_client_that_resets_among_its_pipelined_requests(
    direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The page is where it resets: what is written next fails, with requests left to be answered."""
    app, pages = App(), Events()
    async with app.listening(direct=direct) as server, tcp(server) as client:

        def page(request: Request) -> str:
            if not pages.seen:
                client.reset()
            pages.add("page")
            return "page"

        @app.get("/later")
        async def later(request: Request) -> str:
            return page(request)

        app.get("/")(page)
        await client.send((request("/") * (AT_ONCE - 1) + request("/later")) * 10)
        async with asyncio.timeout(GUARD):
            while not pages.seen or server.protocols:
                await asyncio.sleep(0)
    assert len(pages.seen) <= 2 * AT_ONCE  # uvloop resets when that turn is over: the next one notices
    assert caplog.records == []


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_connection_close_is_heeded(kind: str) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/", {"Host": "test", "Connection": "close"}))
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"page", "close")
        assert await client.eof() == b""


@on_each_loop
async def test_a_large_page_arrives_whole() -> None:
    app, size = App(), 1 << 24
    app.get("/")(lambda request: bytes(size))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"), request("/", {"Host": "test", "Connection": "close"}))
        assert [len((await client.answer()).body) for _ in range(2)] == [size, size]
        assert await client.eof() == b""


LARGE = 1 << 25
"""Bytes, more than the kernel takes for a client that does not read."""


def large() -> App:
    """A large page, and all the time in the world."""
    app = App(open_timeout=1000)
    app.get("/page")(lambda request: bytes(LARGE))
    return app


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@on_each_loop
async def test_a_client_may_take_its_time_for_a_response_if_it_takes_some(connection: str, direct: bool) -> None:
    async with large().listening(direct=direct) as server, tcp(server, receive_buffer=1 << 16) as client:
        await client.send(request("/page", {"Host": "test", "Connection": connection}))
        await client.reader.readuntil(b"\r\n\r\n")
        (protocol,) = server.protocols
        for _ in range(16):
            await client.reader.readexactly(1 << 20)
            protocol.expired()  # it has had the time that it has
        assert len(await client.reader.readexactly(LARGE - (16 << 20))) == LARGE - (16 << 20)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@on_each_loop
async def test_a_client_that_takes_nothing_of_a_response_is_cut_off(connection: str, direct: bool) -> None:
    async with large().listening(direct=direct) as server, tcp(server, receive_buffer=1 << 16) as client:
        await client.send(request("/page", {"Host": "test", "Connection": connection}))
        await client.reader.readuntil(b"\r\n\r\n")
        (protocol,) = server.protocols
        async with asyncio.timeout(GUARD):
            while server.protocols:
                protocol.expired()
                await asyncio.sleep(0)
        assert len(await client.eof()) < LARGE


@on_each_loop
async def test_the_time_for_taking_some_of_a_response_is_that_for_a_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(open_timeout=0.05)
    (tmp_path / "file").write_bytes(bytes(LARGE))
    app.static("/", tmp_path)
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening() as server, tcp(server, receive_buffer=1 << 16) as client:
            await client.send(request("/file"))
            await client.reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(GUARD):
                while server.protocols:
                    await asyncio.sleep(0)
            text = f"Refused a connection of {client.address}: it took nothing of a response for 0.05 s"
    assert text in caplog.messages


@on_each_loop
async def test_connections_do_not_wait_for_each_others_pages() -> None:
    app, gate = App(), Gate()

    app.get("/slow")(gate.before(lambda request: "slow"))
    app.get("/quick")(lambda request: "quick")
    async with app.listening() as server, tcp(server) as one, tcp(server) as two:
        await one.send(request("/slow"))
        await gate.reached()
        await two.send(request("/quick"))
        assert (await two.answer()).body == b"quick"
        gate.open()
        assert (await one.answer()).body == b"slow"


@on_each_loop
async def test_a_page_whose_client_has_gone_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    app, gate = App(), Gate()

    app.get("/")(gate.before(lambda request: bytes(10_000_000)))
    with caplog.at_level(logging.WARNING):
        async with app.listening() as server:
            async with tcp(server) as client:
                await client.send(request("/"))
                await gate.reached()
                client.reset()
            gate.open()
    assert caplog.records == []


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_client_that_has_closed_its_half_still_gets_its_page(kind: str) -> None:
    app = App()
    app.get("/")(of_kind(kind, lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        client.writer.write(request("/"))
        client.writer.write_eof()
        assert (await client.answer()).body == b"page"
        assert await client.eof() == b""


@on_each_loop
async def test_a_broadcast_may_come_from_a_page() -> None:
    app, ws, opened = App(), WebSocketServer(), Events()
    ws.on_connect(opened.add)
    app.get("/tell")(lambda request: {"clients": ws.connection_count(), "told": ws.broadcast(request.query["text"])})
    async with app.listening() as server, connect(server) as peer, tcp(server) as client:
        await opened.reach(1)
        await client.send(request("/tell?text=hello"))
        assert json.loads((await client.answer()).body) == {"clients": 1, "told": None}
        assert await peer.recv() == "hello"


# ---- Static files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text("<p>page</p>")
    (tmp_path / "index.html").write_text("<p>index</p>")
    (tmp_path / "large.bin").write_bytes(bytes(3_000_000))
    return tmp_path


@on_each_loop
async def test_static_serves_the_files_of_a_directory(files: Path) -> None:
    app = App()
    app.static("/files", files)
    async with app.listening() as server, tcp(server) as client:
        for path, status, body in [
            ("/files/page.html", 200, b"<p>page</p>"),
            ("/files/", 200, b"<p>index</p>"),
            ("/files/nothing", 404, None),
            ("/files/../secret", 404, None),
            ("/page.html", 404, None),
            ("/files/large.bin", 200, bytes(3_000_000)),
        ]:
            await client.send(request(path))
            answer = await client.answer()
            assert answer.status == status, path
            assert body is None or answer.body == body


@on_each_loop
async def test_the_prefix_without_its_slash_leads_to_the_one_with_it(files: Path) -> None:
    app = App()
    app.static("/files", files)
    answer = await get(app, "/files?x=1")
    assert (answer.status, answer.headers["location"]) == (308, "/files/?x=1")


@on_each_loop
async def test_pages_and_websockets_go_before_static_files(files: Path) -> None:
    app, ws = App(), WebSocketServer("/ws")
    app.static("/", files)
    app.get("/page.html")(lambda request: "handler")
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/page.html"), request("/index.html"), handshake(ws.path))
        assert (await client.answer()).body == b"handler"
        assert (await client.answer()).body == b"<p>index</p>"
        assert (await client.answer()).status == 101


@on_each_loop
async def test_the_longest_prefix_wins(files: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "page.html").write_text("other")
    app = App()
    app.static("/", files)
    app.static("/deep/er", other)
    assert (await get(app, "/deep/er/page.html")).body == b"other"


@on_each_loop
async def test_a_head_request_for_a_file_has_no_content(files: Path) -> None:
    app = App()
    app.static("/", files)
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/page.html", method="HEAD") + request("/page.html"))
        assert (await client.answer(head_only=True)).headers["content-length"] == "11"
        assert (await client.answer()).body == b"<p>page</p>"


@on_each_loop
async def test_an_upgrade_request_for_a_page_is_answered_with_the_page() -> None:
    """A server may ignore Upgrade (RFC 9110 section 7.8); a WebSocket client takes it as a refusal."""
    app = App()
    app.get("/page")(lambda request: request.headers["Sec-WebSocket-Key"])
    async with app.listening() as server, tcp(server) as client:
        await client.send(handshake("/page"))
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, KEY.encode())


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
