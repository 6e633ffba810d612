"""crest.connection: close codes and reasons, both ways (RFC 6455 section 7), and peers that do not play along."""

import asyncio
from typing import Any

import pytest
from support.client import BINARY, CLOSE, GUARD, TEXT, Frame, close_frame, connect, frame, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import App, CloseCode, WebSocketConnection, WebSocketServer

LEGAL = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
ILLEGAL = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535]
IMPOSSIBLE = [-1, -1000, 65536, 65536 + 1000, 1 << 32, 1 << 70]


def refusal(conn: WebSocketConnection, *arguments: Any) -> BaseException | None:
    """What close raises."""
    try:
        conn.close(*arguments)
    except Exception as error:
        return error
    return None


# ---- Codes and reasons that are sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LEGAL)
@on_each_loop
async def test_a_legal_code_is_sent_and_comes_back(code: int) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: conn.close(code, f"because {code}"))
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App().listening() as server, connect(server) as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (code, f"because {code}")
        assert await events.reach(1) == [(code, f"because {code}")]


@pytest.mark.parametrize("code", [*ILLEGAL, *IMPOSSIBLE])
@on_each_loop
async def test_an_illegal_code_is_a_value_error_and_closes_nothing(code: int) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(refusal(conn, code), conn.is_open()))
    async with App().listening() as server, connect(server):
        ((error, still_open),) = await events.reach(1)
    assert isinstance(error, ValueError)
    assert str(error) == f"close code {code} may not be sent; 1000-1003, 1007-1014 and 3000-4999 may"
    assert still_open


@pytest.mark.parametrize(("code", "name"), [("1000", "str"), (1000.0, "float"), (None, "NoneType")])
@on_each_loop
async def test_a_code_that_is_no_int_is_a_type_error(code: Any, name: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(refusal(conn, code)))
    async with App().listening() as server, connect(server):
        (error,) = await events.reach(1)
    assert isinstance(error, TypeError)
    assert str(error) == f"close code must be int, not {name}"


@on_each_loop
async def test_a_code_may_be_given_by_its_name() -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.close(code=CloseCode.SERVICE_RESTART, reason="soon back"))
    async with App().listening() as server, connect(server) as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1012, "soon back")


@on_each_loop
async def test_without_arguments_the_code_is_1000_and_the_reason_is_empty() -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.close())
    async with App().listening() as server, upgraded(server) as client:
        assert await client.frame() == Frame(CLOSE, b"\x03\xe8")


@pytest.mark.parametrize("reason", ["x" * 123, "ü" * 61, "ü" * 61 + "x", "日" * 41, "🦀" * 30 + "日"])
@on_each_loop
async def test_a_reason_may_have_123_bytes(reason: str) -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.close(1000, reason))
    async with App().listening() as server, connect(server) as client:
        await client.wait_closed()
        assert client.close_reason == reason


@pytest.mark.parametrize("reason", ["x" * 124, "ü" * 62, "日" * 41 + "x", "🦀" * 31, "x" * 100_000])
@on_each_loop
async def test_a_reason_of_more_bytes_is_a_value_error_and_closes_nothing(reason: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(refusal(conn, 1000, reason), conn.is_open()))
    async with App().listening() as server, connect(server):
        ((error, still_open),) = await events.reach(1)
    assert isinstance(error, ValueError)
    assert f"close reason has {len(reason.encode())} bytes of UTF-8, at most 123" in str(error)
    assert still_open


@pytest.mark.parametrize(("reason", "name"), [(b"x", "bytes"), (None, "NoneType"), (1, "int")])
@on_each_loop
async def test_a_reason_that_is_no_str_is_a_type_error(reason: Any, name: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(refusal(conn, 1000, reason)))
    async with App().listening() as server, connect(server):
        (error,) = await events.reach(1)
    assert isinstance(error, TypeError)
    assert str(error) == f"close reason must be str, not {name}"


@on_each_loop
async def test_a_reason_with_a_lone_surrogate_is_a_value_error() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(refusal(conn, 1000, "\ud800")))
    async with App().listening() as server, connect(server):
        assert isinstance((await events.reach(1))[0], ValueError)


@on_each_loop
async def test_a_reason_may_be_a_subclass_of_str() -> None:
    class Text(str): ...

    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(refusal(conn, 1000, Text("why"))))
    async with App().listening() as server, connect(server) as client:
        assert await events.reach(1) == [None]
        await client.wait_closed()
        assert client.close_reason == "why"


# ---- Closing more than once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_closing_twice_is_a_no_op(kind: str) -> None:
    ws, events = WebSocketServer(), Events()

    def connected(conn: WebSocketConnection) -> None:
        conn.close(4000, "first")
        conn.close(4001, "second")

    ws.on_connect(of_kind(kind, connected))
    ws.on_close(lambda conn, code, reason: (conn.close(4002), events.add(code, reason)))
    async with App().listening() as server, upgraded(server) as client:
        close = await client.frame()
        assert (close.code, close.reason) == (4000, "first")
        await client.send(close_frame(4000, "first"))
        assert await client.eof() == b""
        assert await events.reach(1) == [(4000, "first")]


@on_each_loop
async def test_closing_after_the_peer_did_sends_no_second_close_frame() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: (conn.close(4002), events.add(code)))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(close_frame(4000))
        assert (await client.frame()).code == 4000
        assert await client.eof() == b""
        assert await events.reach(1) == [4000]


@on_each_loop
async def test_wrong_arguments_are_refused_on_a_closed_connection_too() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(type(refusal(conn, 1)), type(refusal(conn, "1000"))))
    async with App().listening() as server:
        async with connect(server):
            pass
        assert await events.reach(1) == [(ValueError, TypeError)]


# ---- What the peer's close frame says --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LEGAL)
@on_each_loop
async def test_the_peers_legal_code_is_handed_on_and_answered(code: int) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(close_frame(code, "bye"))
        answer = await client.frame()
        assert (answer.opcode, answer.code) == (CLOSE, code)
        assert await client.eof() == b""
        assert await events.reach(1) == [(code, "bye")]


@pytest.mark.parametrize("code", ILLEGAL)
@on_each_loop
async def test_the_peers_illegal_code_fails_the_connection_with_1002(code: int) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_error(lambda conn, error: events.add(error))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(close_frame(code))
        assert (await client.frame()).code == 1002
        assert await events.reach(2) == [f"frame 1: close code {code} may not be sent", 1002]


@on_each_loop
async def test_a_close_frame_without_a_code_is_1005_and_is_answered_likewise() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(close_frame())
        assert await client.frame() == Frame(CLOSE, b"")
        assert await events.reach(1) == [(1005, "")]


@pytest.mark.parametrize("reason", ["", "x" * 123, "日" * 41])
@on_each_loop
async def test_the_peers_reason_is_handed_on(reason: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(reason))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(close_frame(1000, reason))
        assert await events.reach(1) == [reason]


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize("unfinished", [b"", frame(TEXT, "x" * 50)[:20], frame(TEXT, "x", fin=False)])
@on_each_loop
async def test_the_end_of_tcp_without_a_close_frame_is_1006(how: str, unfinished: bytes) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_error(lambda conn, error: events.add(error))
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App().listening() as server:
        async with upgraded(server) as client:
            await client.send(unfinished)
            if how == "reset":
                client.reset()
        assert await events.reach(1) == [(1006, "")]


@on_each_loop
async def test_a_close_frame_with_the_end_of_tcp_right_behind_it_counts() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App().listening() as server:
        async with upgraded(server) as client:
            await client.send(close_frame(4000, "bye"))
        assert await events.reach(1) == [(4000, "bye")]


@pytest.mark.parametrize("last", [close_frame(4000), frame(0x3)])
@on_each_loop
async def test_what_came_before_a_reset_still_counts(last: bytes) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        client.writer.write(last)
        client.reset()
        assert await events.reach(1) in ([4000], [1002])


@on_each_loop
async def test_when_both_close_at_once_on_close_gets_the_peers_code() -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code, reason))
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        client.writer.write(close_frame(4001, "peer"))
        conn.close(4002, "server")
        assert [each.code for each in await client.until_close()] == [4002]
        assert await client.eof() == b""
        assert await closed.reach(1) == [(4001, "peer")]


@on_each_loop
async def test_data_behind_the_peers_close_frame_is_ignored() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(lambda conn, message: events.add(message))
    ws.on_error(lambda conn, error: events.add(error))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(close_frame(1000), frame(TEXT, "late"), frame(0x3), close_frame(4000))
        assert (await client.frame()).code == 1000
        assert await client.eof() == b""
        assert events.seen == [1000]


# ---- Peers that do not answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [True, False])
@on_each_loop
async def test_a_peer_that_never_answers_is_cut_off_after_close_timeout(reads: bool) -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_connect(lambda conn: conn.close(4000))
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App().listening() as server, upgraded(server) as client:
        if reads:
            assert (await client.frame()).code == 4000
            assert await client.eof() == b""
        assert await events.reach(1) == [(1006, "")]


@on_each_loop
async def test_a_peer_that_goes_on_talking_instead_of_answering_is_cut_off_too() -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_message(lambda conn, message: conn.close(4000))
    ws.on_binary(lambda conn, data: events.add("not called any more"))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "close"))
        with pytest.raises(ConnectionError):
            while True:
                await client.send(frame(BINARY, bytes(1000)))
        assert await events.reach(1) == [1006]


@on_each_loop
async def test_a_peer_that_does_not_end_its_side_of_tcp_is_cut_off() -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    app = App(shutdown_timeout=2 * GUARD)
    async with asyncio.timeout(GUARD), upgraded_in(app) as (server, client):
        await client.send(close_frame(1000))
        assert (await client.frame()).code == 1000
        assert await events.reach(1) == [1000]
        await server.stop()  # returns once every connection is gone, although the client still holds its own


@on_each_loop
async def test_a_peer_that_reads_nothing_is_cut_off_with_all_that_waits_for_it() -> None:
    ws, events = WebSocketServer(close_timeout=0.1, max_backlog=1 << 26), Events()

    def connected(conn: WebSocketConnection) -> None:
        conn.send_binary(bytes(1 << 25))
        conn.close(4000)

    ws.on_connect(connected)
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, tcp(server, receive_buffer=32768) as client:
        await client.upgrade()
        client.stop_reading()
        assert await events.reach(1) == [1006]


class upgraded_in:
    """A server of this app, and a client of it, both for as long as the context lasts."""

    def __init__(self, app: App) -> None:
        self.serving = app.listening()

    async def __aenter__(self) -> tuple[Any, Any]:
        server = await self.serving.__aenter__()
        self.client = upgraded(server)
        return server, await self.client.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self.client.__aexit__(*error)
        await self.serving.__aexit__(*error)
