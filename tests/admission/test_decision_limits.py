"""crest.admission.decision: how many connections there may be, how often they may come, and what counts."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from support.client import GUARD, TEXT, Client, frame, handshake, request, tcp, upgraded
from support.decision import Decision, all_gone, answer_to
from support.events import KINDS, Events, of_kind, on_each_loop, until

from crest import App, Reject, Request, WebSocketServer


@on_each_loop
async def test_past_max_connections_there_is_503_until_one_leaves(direct: bool) -> None:
    ws = WebSocketServer(max_connections=2)
    async with App().listening(direct=direct) as server:
        for _ in range(3):
            async with upgraded(server), upgraded(server):
                answer = await answer_to(server)
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            await all_gone(ws, server)
    assert ws.refused == {"max_connections": 3}


@on_each_loop
async def test_past_max_connections_per_ip_there_is_429(direct: bool) -> None:
    ws = WebSocketServer(max_connections_per_ip=1)
    app = App(trusted_proxies=["127.0.0.1"])
    alice, bob = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "192.0.2.8"}
    async with app.listening(direct=direct) as server:
        async with upgraded(server, changed=alice), upgraded(server, changed=bob), upgraded(server):
            answer = await answer_to(server, {**alice})
            assert (answer.status, answer.headers["retry-after"]) == (429, "5")
            assert b"192.0.2.7" in answer.body
        await all_gone(ws, server)
        async with upgraded(server, changed=alice):
            pass
    assert ws.refused == {"max_connections_per_ip": 1}
    assert len(ws._admission._seats) == 0


@on_each_loop
async def test_past_max_connect_rate_per_ip_there_is_429(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    ws = WebSocketServer(max_connect_rate_per_ip=(0.01, 2))
    app = App(trusted_proxies=["127.0.0.1"])
    alice, bob = {"X-Forwarded-For": "2001:db8::1"}, {"X-Forwarded-For": "192.0.2.8"}
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening(direct=direct) as server:
            for _ in range(2):
                async with upgraded(server, changed=alice):
                    pass
            for host in ("2001:db8::1", "2001:db8::ffff"):
                answer = await answer_to(server, {"X-Forwarded-For": host})
                assert (answer.status, answer.headers["retry-after"]) in ((429, "100"), (429, "99"))
                assert answer.body == b"2001:db8::/64 connects too often\n"
            async with upgraded(server, changed=bob):
                pass
    assert ws.refused == {"max_connect_rate_per_ip": 2}
    told = [message for message in caplog.messages if "Refused" in message]
    assert told == [
        "Refused a request of ('2001:db8::1', 0): 429, 2001:db8::/64 connects too often",
        "Refused 1 more like the last one (max_connect_rate_per_ip)",
    ]


@on_each_loop
async def test_who_is_refused_otherwise_has_connected_nevertheless() -> None:
    ws = WebSocketServer(max_connections=1, max_connect_rate_per_ip=(0.01, 4), origins=[])

    def upgrade(request: Request) -> None:
        if "bad" in request.query:
            raise Reject

    ws.on_upgrade(upgrade)
    async with App().listening() as server:
        assert (await answer_to(server, {"Origin": "http://test"})).status == 403  # before it counts
        assert (await answer_to(server, path="/ws?bad=1")).status == 401
        async with upgraded(server):
            assert [(await answer_to(server)).status for _ in range(4)] == [503, 503, 429, 429]
    assert ws.refused == {"origin": 1, "on_upgrade": 1, "max_connections": 2, "max_connect_rate_per_ip": 2}


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
@on_each_loop
async def test_who_has_no_address_is_not_counted(tmp_path: Path) -> None:
    ws = WebSocketServer(max_connect_rate_per_ip=(0.01, 1), max_connections_per_ip=1)
    path = str(tmp_path / "socket")
    async with App().listening(unix=path):
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(path)
            client = Client(reader, writer)
            await client.upgrade(ws.path)
            await client.close()
    assert ws.refused == {}


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_who_is_refused_by_the_application_is_not_counted(kind: str) -> None:
    ws, ok = WebSocketServer(max_connections=1, max_connections_per_ip=1), False

    def upgrade(request: Request) -> None:
        if not ok:
            raise Reject

    ws.on_upgrade(of_kind(kind, upgrade))
    async with App().listening() as server, tcp(server) as lingering:
        await lingering.send(handshake())
        assert (await lingering.answer()).status == 401
        assert (await answer_to(server)).status == 401
        ok = True
        async with upgraded(server):
            pass
    assert ws.refused == {"on_upgrade": 2}


@on_each_loop
async def test_a_decision_in_progress_counts() -> None:
    ws = WebSocketServer(max_connections=1)
    decision = Decision(ws)
    async with App().listening() as server, tcp(server) as client:
        await client.send(handshake())
        await decision.begun.reach(1)
        assert (await answer_to(server)).status == 503
        decision.decide.set()
        assert (await client.answer()).status == 101
        assert (await answer_to(server)).status == 503


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_ip", "max_sockets_per_ip"])
@on_each_loop
async def test_who_comes_back_while_the_handlers_run_is_let_in_once(limit: str, direct: bool) -> None:
    """A client that was reset knows of it before anybody; but to come and go must not start any number of handlers."""
    ws = WebSocketServer(**{limit: 1} if limit.startswith("max_conn") else {})  # type: ignore[arg-type]
    app = App(max_sockets_per_ip=1 if limit == "max_sockets_per_ip" else None)
    go_on, handling = asyncio.Event(), Events()

    @ws.on_message
    async def received(conn: Any, message: str) -> None:
        handling.add(conn)
        await until(go_on)

    async def is_refused() -> bool:
        async with tcp(server) as client:
            if limit == "max_sockets_per_ip":
                return await client.eof() == b""
            await client.send(handshake())
            return (await client.answer()).status == (503 if limit == "max_connections" else 429)

    async with app.listening(direct=direct) as server:
        seats = server.site._sockets if server.site.counts_sockets else ws._admission._seats
        for number in (1, 2):
            async with upgraded(server) as client:
                await client.send(frame(TEXT, "x"))
                await handling.reach(number)
                assert await is_refused()
                client.reset()
            async with asyncio.timeout(GUARD):
                while len(seats.standing) < number:
                    await asyncio.sleep(0)
        assert await is_refused()
        go_on.set()
        await all_gone(ws, server)
        async with upgraded(server):
            assert len(seats) == 1


@on_each_loop
async def test_one_server_at_two_paths_and_pages_beside_it() -> None:
    ws, app = WebSocketServer(max_connections=1), App()
    app.mount("/a", ws)
    app.mount("/b", ws)
    app.get("/")(lambda request: "page")
    async with app.listening() as server, upgraded(server, "/a"):
        assert (await answer_to(server, path="/b")).status == 503
        async with tcp(server) as client:
            await client.send(request("/"))
            assert (await client.answer()).status == 200
