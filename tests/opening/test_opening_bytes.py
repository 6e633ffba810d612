"""crest.opening.opening: requests as bytes. Cut anywhere, too long, too slow, or no HTTP at all."""

import asyncio
import logging
import socket
import ssl
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, TEXT, Frame, Server, frame, handshake, request, tcp, upgraded
from support.deadlines import Deadlines
from support.events import Events, on_each_loop

from crest import App, Request, WebSocketServer

TLS_CLIENT_HELLO = bytes.fromhex("160301006b0100006703034a") + bytes(100)
HANDSHAKE = handshake(changed={"X-Filler": "y" * 20, "Cookie": "a=b"})


def echo() -> WebSocketServer:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    return ws


# ---- Cut anywhere ----------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_handshake_may_be_cut_at_every_byte() -> None:
    ws = echo()
    async with App().listening() as server:

        async def cut(at: int) -> None:
            async with tcp(server) as client:
                await client.send(HANDSHAKE[:at])
                async with upgraded(server, ws.path) as other:  # until the server has read the first part
                    await other.round_trip()
                await client.send(HANDSHAKE[at:] + frame(TEXT, str(at)))
                assert (await client.answer()).status == 101
                assert await client.frame() == Frame(TEXT, b"%d" % at)

        for at in range(1, len(HANDSHAKE)):
            await cut(at)


@on_each_loop
async def test_a_handshake_may_come_byte_by_byte() -> None:
    ws = echo()
    async with App().listening() as server, tcp(server) as client, upgraded(server, ws.path) as other:
        for i in range(len(HANDSHAKE)):
            await client.send(HANDSHAKE[i : i + 1])
            await other.round_trip()
        assert (await client.answer()).status == 101
        await client.send(frame(TEXT, "x"))
        assert await client.frame() == Frame(TEXT, b"x")


@pytest.mark.parametrize("count", [1, 3, 1000])
@on_each_loop
async def test_frames_in_the_packet_of_the_handshake_are_handled(count: int) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add("connect"))
    ws.on_message(lambda conn, message: events.add(message))
    async with App().listening() as server, tcp(server) as client:
        await client.send(HANDSHAKE + b"".join(frame(TEXT, str(i)) for i in range(count)))
        assert (await client.answer()).status == 101
        assert await events.reach(1 + count) == ["connect", *map(str, range(count))]


@pytest.mark.parametrize("kept", [1, 2, 5, 6, 7])
@on_each_loop
async def test_half_a_frame_in_the_packet_of_the_handshake_is_kept(kept: int) -> None:
    message, ws = frame(TEXT, "xyz"), echo()
    async with App().listening() as server, tcp(server) as client:
        await client.send(handshake(ws.path) + message[:kept])
        assert (await client.answer()).status == 101
        await client.send(message[kept:])
        assert await client.frame() == Frame(TEXT, b"xyz")


@on_each_loop
async def test_empty_lines_before_the_request_are_skipped() -> None:
    ws = echo()
    async with App().listening() as server, tcp(server) as client:
        await client.send(b"\r\n\r\n" + handshake(ws.path))
        assert (await client.answer()).status == 101


@on_each_loop
async def test_a_handshake_may_follow_pages_on_one_connection() -> None:
    app, ws = App(), echo()
    app.get("/")(lambda request: "page")
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/") * 2 + handshake(ws.path) + frame(TEXT, "x"))
        assert [(await client.answer()).status for _ in range(3)] == [200, 200, 101]
        assert await client.frame() == Frame(TEXT, b"x")


@on_each_loop
async def test_a_handshake_may_follow_a_404() -> None:
    ws = echo()
    async with App().listening() as server, tcp(server) as client:
        await client.send(handshake("/nowhere"))
        assert (await client.answer()).status == 404
        await client.upgrade(ws.path)


# ---- No HTTP, or too much of it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\xff" * 1000,
        bytes(range(256)) * 10,
        b"hello\r\n\r\n",
        b"GET /ws HTTP/1.1\nHost: test\n\n",
        b"GET /ws HTTP/1.1\r\nHost : test\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: test\r\n folded\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHo\x00st: test\r\n\r\n",
        b"\x88\x80\x00\x00\x00\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
@on_each_loop
async def test_garbage_gets_400(data: bytes) -> None:
    ws = echo()
    async with App().listening() as server:
        async with tcp(server) as client:
            await client.send(data)
            assert (await client.answer()).status == 400
            assert await client.eof() == b""
        async with upgraded(server, ws.path) as other:
            await other.round_trip()


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b""])
@on_each_loop
async def test_another_version_of_http_gets_505(version: bytes) -> None:
    ws = echo()
    async with App().listening() as server, tcp(server) as client:
        await client.send(handshake(ws.path).replace(b" HTTP/1.1", version))
        assert (await client.answer()).status == 505
        assert await client.eof() == b""


@on_each_loop
async def test_tls_on_a_plain_port_gets_400_that_says_so() -> None:
    ws = echo()
    async with App().listening() as server, tcp(server) as client:
        await client.send(TLS_CLIENT_HELLO)
        answer = await client.answer()
        assert answer.status == 400
        assert b"TLS" in answer.body
        assert await client.eof() == b""
    assert ws.connection_count() == 0


@pytest.mark.parametrize("at_once", [True, False])
@on_each_loop
async def test_a_head_over_max_header_size_gets_431(at_once: bool) -> None:
    ws = echo()
    data = handshake(ws.path, {"X-Filler": "y" * 2000})
    async with App(max_header_size=1000).listening() as server, tcp(server) as client:
        if at_once:
            await client.send(data)
        else:
            await client.send(data[:600])
            async with upgraded(server) as other:
                await other.round_trip()
            await client.send(data[600:])
        answer = await client.answer()
        assert answer.status == 431
        assert b"1000 bytes" in answer.body
        assert await client.eof() == b""


@on_each_loop
async def test_a_head_of_max_header_size_is_accepted_and_one_byte_more_is_not() -> None:
    ws = echo()
    size = 1000
    filler = "y" * (size - len(handshake(ws.path, {"X": ""})))
    async with App(max_header_size=size).listening() as server:
        for more, status in [("", 101), ("y", 431)]:
            async with tcp(server) as client:
                await client.send(handshake(ws.path, {"X": filler + more}))
                assert (await client.answer()).status == status


@on_each_loop
async def test_more_than_max_headers_get_431() -> None:
    ws = echo()
    async with App(max_headers=10).listening() as server:
        for count, status in [(5, 101), (6, 431)]:
            async with tcp(server) as client:
                await client.send(handshake(ws.path, {f"X-{i}": "y" for i in range(count)}))
                assert (await client.answer()).status == status


@on_each_loop
async def test_an_endless_head_is_refused_before_it_ends() -> None:
    ws = echo()
    async with App().listening() as server, tcp(server) as client:
        await client.send(f"GET {ws.path} HTTP/1.1\r\nX-Endless: ".encode() + b"y" * 20_000)
        assert (await client.answer()).status == 431
        assert await client.eof() == b""


# ---- Too slow, or gone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"G", b"GET /ws", HANDSHAKE[:-1]])
@on_each_loop
async def test_a_request_that_is_not_complete_within_open_timeout_gets_408(begun: bytes, direct: bool) -> None:
    ws = echo()
    async with App(open_timeout=0.1).listening(direct=direct) as server, tcp(server) as client:
        await client.send(begun)
        answer = await client.answer()
        assert answer.status == 408
        assert b"no complete request within 0.1 s" in answer.body
        assert await client.eof() == b""
    assert ws.connection_count() == 0


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"\r\n\r"])
@on_each_loop
async def test_a_connection_without_a_request_is_closed_in_silence(
    begun: bytes, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Browsers open some in advance: what came would be the answer to the request that they are about to send."""
    with caplog.at_level(logging.INFO, "crest"):
        async with App(open_timeout=0.1).listening(direct=direct) as server, tcp(server) as client:
            await client.send(begun)
            assert await client.eof() == b""
    assert not any("Refused" in message for message in caplog.messages)


@on_each_loop
async def test_a_kept_connection_is_closed_in_silence_after_keep_alive_timeout(direct: bool) -> None:
    app = App(open_timeout=1000, keep_alive_timeout=0.1)
    app.get("/")(lambda request: "page")
    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(request("/") * 2)
        assert [(await client.answer()).body for _ in range(2)] == [b"page", b"page"]
        assert await client.eof() == b""


def read_to_end(server: Server, data: bytes, tls: ssl.SSLContext) -> bytes:
    """What these bytes are answered with, over TLS, up to the server's close_notify.

    Raises:
        ssl.SSLEOFError: The stream ends without one.
    """
    plain = socket.create_connection((server.host, server.port), timeout=GUARD)
    with tls.wrap_socket(plain, server_hostname=server.host, suppress_ragged_eofs=False) as sock:
        sock.sendall(data)
        received = b""
        while chunk := sock.recv(1 << 16):
            received += chunk
        return received


@pytest.mark.parametrize("kept", [True, False])
@on_each_loop
async def test_over_tls_silence_is_a_close_notify(kept: bool, pair: Pair, direct: bool) -> None:
    app, asked = App(open_timeout=1000, keep_alive_timeout=1000), Events()
    app.get("/")(lambda request: asked.add("page") or "page")
    async with app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct) as server:
        data = request("/") if kept else b""
        reading = asyncio.create_task(asyncio.to_thread(read_to_end, server, data, pair.client()))
        await asked.reach(int(kept))
        async with asyncio.timeout(GUARD):
            while not server.protocols:
                await asyncio.sleep(0)
            (protocol,) = server.protocols
            while protocol.opening is not None:  # what the client was sent before may be on its way to it still
                protocol.expired()
                await asyncio.sleep(0)
        received = await reading
    assert received.endswith(b"page") if kept else received == b""


@on_each_loop
async def test_a_request_that_has_begun_on_a_kept_connection_has_open_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    app, deadlines = App(open_timeout=55, keep_alive_timeout=77), Deadlines(monkeypatch)
    app.get("/")(lambda request: "page")
    async with app.listening(direct=False) as server, tcp(server) as client:
        await deadlines.until([55])
        await client.send(request("/"))
        assert (await client.answer()).body == b"page"
        await deadlines.until([0, 77])
        await client.send(b"\r\n" + request("/")[:5])
        await deadlines.until([55])
        await client.send(request("/")[5:6])
        await client.send(request("/")[6:] + b"GET")
        assert (await client.answer()).body == b"page"
        await deadlines.until([0, 77, 55])


@on_each_loop
async def test_a_request_that_is_not_complete_on_a_kept_connection_gets_408() -> None:
    app = App(open_timeout=0.1, keep_alive_timeout=1000)
    app.get("/")(lambda request: "page")
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/") + b"GET")
        assert (await client.answer()).body == b"page"
        assert (await client.answer()).status == 408


@on_each_loop
async def test_a_decision_on_a_kept_connection_has_open_timeout() -> None:
    app, ws = App(open_timeout=0.1, keep_alive_timeout=1000), WebSocketServer()
    app.get("/")(lambda request: "page")

    @ws.on_upgrade
    async def decide(request: Request) -> None:
        await asyncio.get_running_loop().create_future()

    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        assert (await client.answer()).body == b"page"
        await client.send(handshake())
        assert (await client.answer()).status == 503
    assert ws.refused == {"timeout": 1}


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), 1e10, "60", None])
def test_keep_alive_timeout_is_a_time(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="keep_alive_timeout must be"):
        App(keep_alive_timeout=wrong)


@on_each_loop
async def test_a_client_that_sends_byte_by_byte_has_no_more_time_than_others() -> None:
    ws = echo()
    async with App(open_timeout=0.2).listening() as server, tcp(server) as client:
        head = handshake(ws.path, {"X-Filler": "y" * 10_000})
        answer = asyncio.ensure_future(client.answer())
        for i in range(len(head)):
            await asyncio.sleep(0.01)  # a slow client, not a wait for something
            if answer.done() or client.writer.is_closing():
                break
            client.writer.write(head[i : i + 1])
        assert (await answer).status == 408


@on_each_loop
async def test_open_timeout_ends_with_the_handshake() -> None:
    ws, again = echo(), WebSocketServer("/again")
    async with App(open_timeout=0.1).listening() as server, upgraded(server, ws.path) as client:
        async with tcp(server) as other:
            assert await other.eof() == b""  # the client's time is over too
        await client.send(frame(TEXT, "x"))
        assert await client.frame() == Frame(TEXT, b"x")
    assert again.connection_count() == 0


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("at", [0, 1, 50, len(HANDSHAKE) - 1])
@on_each_loop
async def test_a_client_may_leave_in_the_middle(how: str, at: int, caplog: pytest.LogCaptureFixture) -> None:
    ws, events = echo(), Events()
    ws.on_connect(events.add)
    ws.on_close(lambda *args: events.add(args))
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(GUARD), App(shutdown_timeout=2 * GUARD).listening() as server:
            async with tcp(server) as client:
                await client.send(HANDSHAKE[:at])
                if how == "reset":
                    client.reset()
    assert events.seen == []
    assert caplog.records == []


@on_each_loop
async def test_a_client_may_leave_right_behind_its_handshake() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add("connect"))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with tcp(server) as client:
            await client.send(HANDSHAKE)
            client.writer.write_eof()
            assert await events.reach(2) == ["connect", 1006]
