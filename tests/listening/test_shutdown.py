"""crest.listening.shutdown: who is closed when, what clients are told, what is waited for, and that nothing is lost."""

import asyncio
import logging
import re
import socket
from contextlib import AsyncExitStack, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, TEXT, Client, Frame, close_frame, connect, frame, handshake, request, tcp, upgraded
from support.events import KINDS, Events, Gate, of_kind, on_each_loop, turns, until
from websockets.exceptions import ConnectionClosed

from crest import App, Deflate, Request, WebSocketConnection, WebSocketServer
from crest.listening.listener import Listener
from crest.listening.shutdown import batches, closing_time
from crest.opening.parting import absence

ENDLESS = 1e6
"""Seconds that no test waits for."""


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crest"]


async def never(*args: Any) -> None:
    await asyncio.Event().wait()


# ---- When, and what they are told ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "rate", "longest", "seconds"),
    [(0, 1000.0, 5.0, 0.0), (10, 1000.0, 5.0, 0.01), (15_000, 1000.0, 5.0, 5.0), (15_000, None, 5.0, 0.0)],
)
def test_closing_takes_as_long_as_its_rate_says_but_not_too_long(
    count: int, rate: float | None, longest: float, seconds: float
) -> None:
    assert closing_time(count, rate, longest) == seconds


@pytest.mark.parametrize(("count", "seconds"), [(0, 0.0), (1, 1.0), (10, 0.01), (15_000, 0.0)])
def test_few_connections_and_those_without_a_time_are_closed_at_once(count: int, seconds: float) -> None:
    assert batches(count, seconds, lambda: 0.5) == [(0.0, count)]


@pytest.mark.parametrize(("count", "seconds"), [(2, 100.0), (100, 0.1), (777, 0.5), (15_000, 5.0), (1_000_000, 15.0)])
def test_many_are_closed_in_batches_of_one_size_each_in_its_own_stretch(count: int, seconds: float) -> None:
    whole = batches(count, seconds, cycle([0.0, 0.999, 0.4]).__next__)
    number = len(whole)
    assert number == min(count, round(seconds / 0.02))
    assert sum(size for _, size in whole) == count
    assert {size for _, size in whole} <= {count // number, count // number + 1}
    assert whole[0][0] == 0.0
    for i, (at, _) in enumerate(whole[1:], start=1):
        assert (i - 1) * seconds / number <= at < i * seconds / number


def test_batches_are_not_in_step_with_those_of_another_process() -> None:
    early, late = (batches(1000, 1.0, lambda given=given: given) for given in (0.0, 0.5))
    assert all(round(b[0] - a[0], 6) == 0.01 for a, b in zip(early[1:], late[1:], strict=True))


def test_nobody_comes_back_before_all_are_closed_nor_all_at_once() -> None:
    assert [absence(5.0, 2.0, lambda given=given: given) for given in (0.0, 0.5, 1.0)] == [7.0, 8.0, 9.0]


# ---- What is logged --------------------------------------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged behind the address, without the time that it took."""
    return [re.sub(r"after \d+\.\d s", "after # s", message) for message in messages(caplog)[1:]]


@on_each_loop
async def test_the_log_says_how_many_connections_there_were(caplog: pytest.LogCaptureFixture) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    with caplog.at_level(logging.INFO, "crest"):
        async with App().listening() as server:
            clients = [await connect(server) for _ in range(3)]
            await opened.reach(3)
        assert told(caplog) == [
            "Shutting down; closing 3 connections over 0.0 s",
            "Stopped after # s; of 3 connections, 0 were cut off",
        ]
    for client in clients:
        await client.wait_closed()


@on_each_loop
async def test_connections_of_a_server_with_two_paths_are_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    app, ws, opened = App(), WebSocketServer(), Events()
    ws.on_connect(opened.add)
    app.mount("/a", ws)
    app.mount("/b", ws)
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening() as server:
            client = await connect(server, "/a")
            await opened.reach(1)
        assert told(caplog) == [
            "Shutting down; closing 1 connections over 0.0 s",
            "Stopped after # s; of 1 connections, 0 were cut off",
        ]
    await client.wait_closed()


# ---- In paces --------------------------------------------------------------------------------------------------------


async def begun(server: Listener, first: Client) -> asyncio.Task[None]:
    """A shutdown that closes a connection now, and the others only when it is hurried."""
    stopping = asyncio.create_task(server.stop())
    assert (await first.frame()).code == 1012
    await first.send(close_frame(1012))
    return stopping


def paced(**options: Any) -> App:
    return App(**{"close_rate": 0.001, "shutdown_timeout": ENDLESS, **options})


@on_each_loop
async def test_cancelled_again_it_comes_to_its_end_all_the_same(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    ws, events = WebSocketServer(close_timeout=ENDLESS), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    with caplog.at_level(logging.INFO, "crest"):
        async with paced().listening(direct=direct) as server, upgraded(server) as client:
            stopping = asyncio.create_task(server.stop())
            await client.frame()
            for _ in range(3):
                stopping.cancel()
                await turns()
            with pytest.raises(asyncio.CancelledError):
                await stopping
            assert events.seen == [1006]
            assert server.protocols == []
    assert told(caplog)[-1] == "Stopped after # s; of 1 connections, 1 were cut off"


@pytest.mark.parametrize(
    ("app", "counted"),
    [
        pytest.param({"close_rate": None}, "open", id="without a rate"),
        pytest.param({"close_rate": 0.001, "shutdown_timeout": ENDLESS}, "open", id="hurried"),
        pytest.param({"shutdown_timeout": 0}, "there", id="out of time"),
        pytest.param({"close_rate": None}, "without a request", id="requests"),
    ],
)
@on_each_loop
async def test_the_loop_turns_while_many_are_ended(
    app: dict[str, Any], counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crest.listening.shutdown.AT_ONCE", 2)
    ws, seen = WebSocketServer(), set()

    def count() -> int:
        if counted == "open":
            return ws.connection_count()
        return sum(counted == "there" or each.opening is not None for each in server.protocols)

    async with App(**app).listening() as server, AsyncExitStack() as stack:
        for _ in range(6):
            client = await stack.enter_async_context(tcp(server))
            await client.send(request("/"))
            await client.answer()
            if counted != "without a request":
                await client.upgrade()
        stopping = asyncio.create_task(server.stop())
        async with asyncio.timeout(GUARD):
            while left := count():
                seen.add(left)
                await asyncio.sleep(0)
                if left == 5:
                    server.hurry()
        await stack.aclose()
        await stopping
    assert seen & {1, 2, 3, 4}


@on_each_loop
async def test_those_that_are_not_closed_yet_are_served_as_ever(direct: bool) -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: ws.broadcast(message))
    async with paced().listening(direct=direct) as server:
        async with upgraded(server) as first, upgraded(server) as second, upgraded(server) as third:
            stopping = await begun(server, first)
            await second.send(frame(TEXT, "still here"))
            for client in (second, third):
                assert await client.frame() == Frame(TEXT, b"still here")
            server.hurry()
            for client in (second, third):
                assert (await client.frame()).code == 1012
        await stopping


@pytest.mark.parametrize(
    ("retry_after", "least", "most"), [(0, 1500, 1500), (7.5, 1507.5, 1515)], ids=["at once", "later"]
)
@on_each_loop
async def test_the_reason_says_when_to_come_back(retry_after: float, least: float, most: float) -> None:
    WebSocketServer()
    async with paced(retry_after=retry_after, shutdown_timeout=3000).listening() as server:
        async with upgraded(server) as first, upgraded(server):
            stopping = asyncio.create_task(server.stop())
            reason = (await first.frame()).reason
            assert re.fullmatch(r"retry-after=\d+\.\d\d", reason)
            assert least <= float(reason.partition("=")[2]) <= most
            server.hurry()
        await stopping


@on_each_loop
async def test_without_a_time_to_come_back_the_code_is_1001() -> None:
    ws = WebSocketServer()
    async with paced(retry_after=None).listening() as server:
        async with upgraded(server) as first, upgraded(server), tcp(server) as late:
            stopping = asyncio.create_task(server.stop())
            closed = await first.frame()
            assert (closed.code, closed.reason) == (1001, "the server is shutting down")
            await late.send(handshake(ws.path))
            answer = await late.answer()
            assert answer.status == 503 and "retry-after" not in answer.headers
            server.hurry()
        await stopping


@on_each_loop
async def test_meanwhile_requests_get_503(direct: bool) -> None:
    """On a connection that is new, on one that was there, and on one whose request was on its way."""
    app, ws = paced(shutdown_timeout=3000), WebSocketServer()
    app.get("/")(lambda request: "page")
    async with app.listening(direct=direct) as server:
        async with upgraded(server) as first, upgraded(server), tcp(server) as idle, tcp(server) as half:
            await idle.send(request("/"))
            assert (await idle.answer()).body == b"page"
            await half.send(handshake()[:30])
            await first.round_trip()
            stopping = await begun(server, first)
            await idle.send(request("/"))
            await half.send(handshake()[30:])
            async with tcp(server) as new:
                await new.send(handshake())
                for client in (new, idle, half):
                    answer = await client.answer()
                    assert (answer.status, answer.body) == (503, b"the server is shutting down\n")
                    assert 1500 < int(answer.headers["retry-after"]) <= 1504
                    assert answer.headers["connection"] == "close"
                    assert await client.eof() == b""
            assert ws.refused == {"shutdown": 2}
            server.hurry()
        await stopping


@on_each_loop
async def test_a_shutdown_is_over_when_the_last_client_has_left() -> None:
    """Nobody waits for batches in which there is nobody any more."""
    WebSocketServer()
    async with paced().listening() as server:
        async with upgraded(server) as first, upgraded(server) as second, upgraded(server) as third:
            stopping = await begun(server, first)
            for client in (second, third):
                await client.send(close_frame(1000))
                assert (await client.frame()).code == 1000
        async with asyncio.timeout(GUARD):
            await stopping


@on_each_loop
async def test_a_client_that_says_nothing_does_not_outlast_the_others() -> None:
    """Neither does it keep the server from ending, nor is it closed before it had a chance."""
    WebSocketServer()
    async with paced().listening() as server:
        async with upgraded(server) as first, upgraded(server) as second:
            stopping = await begun(server, first)
            async with tcp(server) as silent:
                server.hurry()
                assert (await second.frame()).code == 1012
                assert await silent.eof() == b""
        await stopping


@on_each_loop
async def test_listening_sockets_that_crest_has_made_may_be_closed_first() -> None:
    WebSocketServer()
    async with paced(keep_listening=False).listening() as server:
        async with upgraded(server) as first, upgraded(server) as second:
            stopping = await begun(server, first)
            with pytest.raises(ConnectionRefusedError):
                async with tcp(server):
                    pass
            await second.round_trip()
            server.hurry()
        await stopping


@on_each_loop
async def test_listening_sockets_that_were_passed_are_left_to_others_at_once(direct: bool) -> None:
    """Who comes then waits for the process that accepts next."""
    WebSocketServer()
    with socket.create_server(("127.0.0.1", 0)) as shared:
        shared.setblocking(False)
        async with paced().listening(listen=shared.dup(), direct=direct) as server:
            async with upgraded(server) as first, upgraded(server) as second:
                stopping = await begun(server, first)
                async with tcp(server) as client:
                    accepted, _ = await asyncio.get_running_loop().sock_accept(shared)
                    with accepted:
                        accepted.send(b"from the next")
                    assert await client.eof() == b"from the next"
                await second.round_trip()
                server.hurry()
            await stopping


# ---- Hurry -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, ENDLESS], ids=["no time", "hurried"])
@on_each_loop
async def test_even_without_any_time_clients_are_told(timeout: float) -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App(shutdown_timeout=timeout).listening() as server:
        async with upgraded(server) as one, upgraded(server) as two:
            stopping = asyncio.create_task(server.stop())
            server.hurry()
            async with asyncio.timeout(GUARD):
                await stopping
            assert closed.seen == [1006, 1006]
            for client in (one, two):
                assert (await client.frame()).code == 1012
                assert await client.eof() == b""


@on_each_loop
async def test_everyone_who_stops_it_waits_for_the_end() -> None:
    ws, release = WebSocketServer(), asyncio.Event()
    ws.on_close(lambda conn, code, reason: release.wait())
    async with App().listening() as server:
        async with upgraded(server) as client:
            tasks = [asyncio.create_task(server.stop()) for _ in range(3)]
            assert (await client.frame()).code == 1012
            await client.send(close_frame(1012))
            assert await client.eof() == b""
        await turns(3)
        assert not any(each.done() for each in tasks)
        release.set()
        await asyncio.gather(*tasks)


@on_each_loop
async def test_cancelling_the_stop_hurries_it() -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with paced().listening() as server, upgraded(server) as client, upgraded(server) as other:
        stopping = asyncio.create_task(server.stop())
        assert (await client.frame()).code == 1012
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert closed.seen == [1006, 1006]
        assert (await other.frame()).code == 1012


# ---- Nothing is lost -------------------------------------------------------------------------------------------------


@on_each_loop
async def test_messages_that_wait_or_still_come_are_handled_before_the_end(direct: bool) -> None:
    """Those in the queue, those in the socket behind a full queue, and those of a client that has not heard of it."""
    ws, events, gate = WebSocketServer(max_queue=2), Events(), Gate()

    ws.on_message(gate.before(lambda conn, message: events.add(message)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening(direct=direct) as server:
        async with upgraded(server) as client:
            await client.send(*[frame(TEXT, str(i)) for i in range(10)])
            await gate.reached()
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1012
            await client.send(frame(TEXT, "10"), frame(TEXT, "11"), close_frame(1012))
            gate.open()
            assert await client.eof() == b""
        await stopping
    assert events.seen == [str(i) for i in range(12)] + [1012]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_what_was_sent_goes_out_before_the_close_frame(kind: str) -> None:
    ws = WebSocketServer()

    @ws.on_message
    @lambda function: of_kind(kind, function)
    def received(conn: WebSocketConnection, message: str) -> None:
        asyncio.get_running_loop().create_task(server.stop())
        for i in range(3):
            conn.send(str(i))
            ws.broadcast(str(i))

    async with App().listening() as server, upgraded(server) as client, upgraded(server) as other:
        await client.send(frame(TEXT, "x"))
        assert [each.payload for each in (await client.until_close())[:-1]] == [b"0", b"0", b"1", b"1", b"2", b"2"]
        assert [each.payload for each in (await other.until_close())[:-1]] == [b"0", b"1", b"2"]
        for each in (client, other):
            await each.send(close_frame(1012))


class Talker:
    """A client of the `websockets` library that talks all the time, and what became of it."""

    def __init__(self) -> None:
        self.sent = 0  # each message was taken by the library before it had heard of the end
        self.answers: list[str] = []
        self.code: int | None = None

    async def talk(self, server: Listener, name: int, well_begun: Events) -> None:
        async with connect(server, f"/ws?{name}") as client:
            listening = asyncio.create_task(self.listen(client, well_begun))
            with suppress(ConnectionClosed):
                while True:
                    await client.send(str(self.sent))
                    self.sent += 1
                    await asyncio.sleep(0)
            await listening
            self.code = client.close_code

    async def listen(self, client: Any, well_begun: Events) -> None:
        with suppress(ConnectionClosed):
            async for message in client:
                self.answers.append(message)
                if len(self.answers) == 5:
                    well_begun.add(self)


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_under_load_both_sides_know_of_every_message(kind: str, direct: bool) -> None:
    """Whatever a client had sent before it heard of the end was handled, once and in order; whatever the server had
    accepted to send was received; and both know the code."""
    ws, well_begun = WebSocketServer(), Events()
    handled: dict[str, list[str]] = {}
    accepted: dict[str, list[str]] = {}
    closed: dict[str, list[int]] = {}

    @ws.on_message
    @lambda function: of_kind(kind, function)
    def received(conn: WebSocketConnection, message: str) -> None:
        name = conn.request.query_string
        handled.setdefault(name, []).append(message)
        if conn.send(message):
            accepted.setdefault(name, []).append(message)

    ws.on_close(lambda conn, code, reason: closed.setdefault(conn.request.query_string, []).append(code))
    talkers = [Talker() for _ in range(30)]
    async with App(close_rate=200).listening(direct=direct) as server:
        tasks = [asyncio.create_task(each.talk(server, i, well_begun)) for i, each in enumerate(talkers)]
        await well_begun.reach(len(talkers))
    await asyncio.gather(*tasks)
    for i, talker in enumerate(talkers):
        name = str(i)
        assert handled[name] == [str(number) for number in range(talker.sent)]
        assert accepted[name] == talker.answers
        assert closed[name] == [talker.code] == [1012]


# ---- Handlers, pages, and peers that do not answer -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_shutdown_closes_every_connection_with_1012_and_runs_every_on_close(kind: str) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(of_kind(kind, lambda conn, code, reason: closed.add(conn, code)))
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(5)]
        await opened.reach(5)
    assert {conn for conn, _ in closed.seen} == set(opened.seen)
    assert [code for _, code in closed.seen] == [1012] * 5
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1012


@on_each_loop
async def test_shutdown_accepts_no_more() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        async with upgraded(server) as client:
            await opened.reach(1)
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1012
            with pytest.raises(ConnectionRefusedError):
                async with tcp(server):
                    pass
        await stopping


@on_each_loop
async def test_shutdown_waits_for_what_was_sent() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 26), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        async with connect(server, max_size=None) as client:
            (conn,) = await opened.reach(1)
            conn.send("x" * (1 << 24))
            stopping = asyncio.create_task(server.stop())
            assert len(await client.recv()) == 1 << 24
            await client.wait_closed()
            assert client.close_code == 1012
        await stopping


@on_each_loop
async def test_shutdown_waits_for_handlers_that_end() -> None:
    ws, events, gate = WebSocketServer(), Events(), Gate()

    ws.on_message(gate.before(lambda conn, message: events.add(message)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "x"))
            await gate.reached()
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1012
            await client.send(close_frame(1012))
            assert await client.eof() == b""
        assert events.seen == []
        gate.open()
        await stopping
        assert events.seen == ["x", 1012]


@on_each_loop
async def test_after_shutdown_timeout_peers_that_do_not_answer_are_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as one, upgraded(server) as two:
        await opened.reach(2)
        await server.stop()
        assert closed.seen == [1006, 1006]
        for client in (one, two):
            assert (await client.frame()).code == 1012
            assert await client.eof() == b""
    assert "2 connections did not close within 0.1 s and are cut off" in messages(caplog)


@pytest.mark.parametrize("handler", ["on_connect", "on_message"])
@on_each_loop
async def test_after_shutdown_timeout_handlers_that_never_return_are_cancelled(handler: str) -> None:
    ws, closed, begun = WebSocketServer(), Events(), asyncio.Event()

    async def stuck(*args: Any) -> None:
        begun.set()
        try:
            await never()
        finally:
            closed.add("cancelled")

    getattr(ws, handler)(stuck)
    ws.on_close(lambda conn, code, reason: closed.add("closed"))
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        await until(begun)
    assert closed.seen == ["cancelled", "closed"]


@pytest.mark.parametrize("handler", ["on_connect", "on_message", "on_close", "on_error"])
@on_each_loop
async def test_handlers_that_ignore_their_cancellation_do_not_keep_the_server_from_ending(
    handler: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crest.listening.shutdown.LAST_WAIT", 0.05)
    ws, begun, release = WebSocketServer(), asyncio.Event(), asyncio.Event()

    async def stubborn(*args: Any) -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    getattr(ws, handler)(stubborn)
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as client:
        await client.send(frame(0x3 if handler == "on_error" else TEXT, "x"))
        if handler != "on_close":
            await until(begun)
    await until(begun)
    assert "handlers of 1 connections ignore their cancellation" in messages(caplog)
    release.set()


@on_each_loop
async def test_on_close_that_broadcasts_during_shutdown_harms_nobody() -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(ws.broadcast("somebody left")))
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(4)]
        await opened.reach(4)
    assert len(closed.seen) == 4
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1012


@on_each_loop
async def test_shutdown_ends_connections_that_have_not_sent_a_request() -> None:
    ws = WebSocketServer()
    async with asyncio.timeout(GUARD), App(shutdown_timeout=2 * GUARD).listening() as server:
        async with tcp(server) as silent, tcp(server) as half, tcp(server) as idle:
            await half.send(handshake(ws.path)[:30])
            await idle.send(request("/"))
            assert (await idle.answer()).status == 404
            async with upgraded(server, ws.path) as other:
                await other.round_trip()
            stopping = asyncio.create_task(server.stop())
            assert [await client.eof() for client in (silent, half, idle)] == [b""] * 3
        await stopping


@on_each_loop
async def test_shutdown_waits_for_a_page_that_is_being_made() -> None:
    app, gate = App(), Gate()

    app.get("/")(gate.before(lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        await gate.reached()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        gate.open()
        assert (await client.answer()).body == b"page"
        assert await client.eof() == b""
        await client.close()
        await stopping


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_client_that_leaves_behind_its_last_page_is_not_waited_for(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(shutdown_timeout=2)
    app.get("/")(of_kind(kind, lambda request: "page"))
    async with app.listening() as server:
        async with tcp(server) as client:
            await client.send(request("/", {"Host": "test", "Connection": "close"}))
            assert (await client.answer()).body == b"page"
            assert await client.eof() == b""
    assert [text for text in messages(caplog) if "cut off" in text] == []


@on_each_loop
async def test_after_shutdown_timeout_a_page_that_is_never_done_is_cancelled() -> None:
    app, begun, events = App(shutdown_timeout=0.1), asyncio.Event(), Events()

    @app.get("/")
    async def page(request: Request) -> str:
        begun.set()
        try:
            await never()
        finally:
            events.add("cancelled")
        return ""

    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        await until(begun)
        await server.stop()
        assert events.seen == ["cancelled"]


@on_each_loop
async def test_one_connection_that_was_reset_does_not_keep_others_from_being_closed() -> None:
    """The server has not read of the reset yet when it is asked to stop."""
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(3)]
        raw = [await asyncio.open_connection(server.host, server.port) for _ in range(3)]
        await opened.reach(3)
        async with upgraded(server) as other:
            await other.round_trip()
        for _, writer in raw:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            writer.transport.abort()
        await asyncio.sleep(0)
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1012


@on_each_loop
async def test_stopping_twice_is_a_no_op() -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App().listening() as server:
        client = await connect(server)
        await server.stop()
        await server.stop()
    await client.wait_closed()
    assert closed.seen == [1012]


@on_each_loop
async def test_a_page_that_is_done_during_the_shutdown_is_the_last_on_its_connection() -> None:
    app, gate = App(), Gate()

    app.get("/")(gate.before(lambda request: "page"))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"), request("/"))
        await gate.reached()
        stopping = asyncio.create_task(server.stop())
        await turns(2)
        gate.open()
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"page", "close")
        assert await client.eof() == b""
        await client.close()
        await stopping


@on_each_loop
async def test_a_file_that_is_on_its_way_arrives_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * (1 << 15)
    (tmp_path / "large").write_bytes(content)
    app = App()
    app.static("/files", tmp_path)
    async with app.listening() as server, tcp(server, receive_buffer=4096) as client:
        await client.send(request("/files/large"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        stopping = asyncio.create_task(server.stop())
        await turns(3)
        assert not stopping.done()
        assert await client.eof() == content
        await client.close()
        await stopping


@pytest.mark.parametrize("takeover", [False, True])
@on_each_loop
async def test_everything_at_once(pair: Pair, takeover: bool) -> None:
    """TLS, compression, threads and keys, and the end in the middle of it: all get what they may get, and 1012."""
    deflate = Deflate(server_no_context_takeover=not takeover)
    ws, opened = WebSocketServer(on_backlog="latest", fanout_threads=2, compression=deflate), Events()
    ws.on_connect(opened.add)
    got: list[list[str]] = [[] for _ in range(20)]

    async def read(client: Any, into: list[str]) -> int:
        try:
            while True:
                into.append(await client.recv())
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code

    async with App().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server:
        offers = ["deflate" if i % 3 else None for i in range(len(got))]
        clients = [await connect(server, ssl=pair.client(), compression=offer) for offer in offers]
        await opened.reach(len(clients))
        reading = [asyncio.create_task(read(*each)) for each in zip(clients, got, strict=True)]
        for i in range(200):
            ws.broadcast(f"{i} " + "state of things " * 500, key=i % 3)
            for conn in ws.get_connections()[::5]:
                conn.send(f"own {i} " + "mine " * 50)
            if i % 10 == 0:
                await asyncio.sleep(0)
    assert await asyncio.gather(*reading) == [1012] * len(clients)
    for texts in got:
        states = [int(each.split()[0]) for each in texts if not each.startswith("own")]
        assert states == sorted(set(states))
        assert states[-3:] == [197, 198, 199]
        own = [int(each.split()[1]) for each in texts if each.startswith("own")]
        assert own in ([], list(range(200)))


# ---- Codes of RFC 6455 -----------------------------------------------------------------------------------------------


@on_each_loop
async def test_1001_in_place_of_1012(direct: bool) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App(close_codes="rfc6455").listening(direct=direct) as server:
        async with upgraded(server) as client:
            stopping = asyncio.ensure_future(server.stop())
            close = await client.frame()
            assert close.code == 1001 and re.fullmatch(r"retry-after=\d\.\d\d", close.reason)
            await client.send(close_frame(1001))
        await stopping
        assert events.seen == [1001]


@on_each_loop
async def test_1001_in_place_of_1013_and_what_the_program_says_stays(direct: bool) -> None:
    ws, opened, events = WebSocketServer(max_backlog=1000), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with App(close_codes="rfc6455").listening(direct=direct) as server:
        async with upgraded(server):
            (slow,) = await opened.reach(1)
            while slow.is_open():
                slow.send_binary(bytes(1 << 20))
            ((code, reason),) = await events.reach(1)
            assert code == 1001 and reason.startswith("the peer reads too slowly")
        async with upgraded(server) as client:
            (await opened.reach(2))[1].close(1013, "come back")
            assert (await client.frame()).code == 1013


@pytest.mark.parametrize(("value", "error"), [("RFC6455", ValueError), (None, TypeError), (True, TypeError)])
def test_codes_that_are_no_choice(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="close_codes must be"):
        App(close_codes=value)
