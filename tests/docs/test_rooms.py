"""docs/rooms.md: each of its snippets, to clients that are in the rooms and others."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from support.client import GUARD, Server, connect
from support.snippets import Checks, Stage, close_of, refusal
from websockets.asyncio.client import ClientConnection

from crest import App, WebSocketServer

check = Checks()


@check("rooms#a-chat-with-rooms")
def chat_with_rooms(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server) as lobby, connect(server, "/ws?room=games") as games:
            async with connect(server, "/ws?room=lobby") as second:
                assert await lobby.recv() == "somebody has come: 2 in lobby"
                await second.send("hello")
                assert await second.recv() == await lobby.recv() == "hello"
            assert await lobby.recv() == "somebody has gone"
            await games.send("is it quiet here?")
            assert await games.recv() == "is it quiet here?"
        async with connect(server, "/ws?room=attic") as attic:
            assert await close_of(attic) == (4004, "no such room")

    stage.serve(app, scenario)


@check("rooms#all-connections-of-one-user")
def one_user(stage: Stage) -> None:
    names = stage.execute()
    ws: WebSocketServer = names["ws"]

    async def scenario(server: Server) -> None:
        alice, bob = "/ws?session=3f1c9a", "/ws?session=b20e77"
        async with connect(server, alice) as phone, connect(server, alice) as tab:
            await tab.send("Bob: are you there?")
            assert await tab.recv() == "Bob is not here"
            async with connect(server, bob) as other:
                await tab.send("Bob: hello")
                assert await other.recv() == await phone.recv() == await tab.recv() == "Alice: hello"
                await other.send("Carol: hello")
                assert await other.recv() == "no such user"
                assert ws.room_size(ws.user("Alice")) == 2
                assert ws.room_names() == []
        assert (await refusal(server))[0] == 401

    stage.serve(names["app"], scenario)


@check("rooms#one-connection-by-its-id")
def by_its_id(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            await one.send("one")
            await other.send("other")
            assert (await one.recv(), await other.recv()) == ("ONE", "OTHER")
            left = names["ws"].get_connections()[0].get_id()
        names["workers"].submit(names["render"], left, "gone").result()

    stage.serve(names["app"], scenario)
    names["workers"].shutdown()
    assert stage.output() == "its client has gone\n"


@check("rooms#clients-that-do-not-keep-up")
def not_keeping_up(stage: Stage) -> None:
    names = stage.execute()

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            await one.send("match-7")
            assert [await one.recv() for _ in range(3)] == ["you watch 1", "match-7: 1", "match-7: goal!"]
            await other.send("match-8")
            assert [await other.recv() for _ in range(3)] == ["you watch 1", "match-8: 1", "match-8: goal!"]
            await other.send("match-7")
            assert [await other.recv() for _ in range(3)] == ["you watch 2", "match-7: 2", "match-7: goal!"]
            assert [await one.recv() for _ in range(2)] == ["match-7: 2", "match-7: goal!"]

    stage.serve(names["app"], scenario)


@check("rooms#names-that-clients-choose")
def names_that_clients_choose(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server) as client, connect(server) as other:
            for number in range(20):
                await client.send(f"room-{number}")
                assert await client.recv() == f"room-{number}: 1 here"
            for room, answer in (
                ("room-20", "you are in 20 rooms already"),
                ("room-3", "room-3: 1 here"),
                ("Room", "a room's name has 1 to 32 of a-z, 0-9 and -"),
                ("x" * 33, "a room's name has 1 to 32 of a-z, 0-9 and -"),
            ):
                await client.send(room)
                assert await client.recv() == answer
            await other.send("room-3")
            assert await other.recv() == "room-3: 2 here"

    stage.serve(names["app"], scenario)


# ---- Who gets what ---------------------------------------------------------------------------------------------------


async def texts(client: ClientConnection) -> list[str]:
    """What a client has got up to "end", which all get."""
    got = []
    while (text := str(await client.recv())) != "end":
        got.append(text)
    return got


def play(scenario: Callable[[WebSocketServer, ClientConnection, ClientConnection], Awaitable[None]]) -> None:
    """Play a scenario with two clients, of which the first connection is the first in `get_connections`."""
    app, ws = App(), WebSocketServer()
    app.mount("/ws", ws)

    async def main() -> None:
        async with asyncio.timeout(GUARD), app.listening("127.0.0.1", 0) as server:
            async with connect(server) as one, connect(server) as other:
                await scenario(ws, one, other)

    asyncio.run(main())


def test_rooms_all_and_own_in_the_order_of_the_calls() -> None:
    async def scenario(ws: WebSocketServer, one: ClientConnection, other: ClientConnection) -> None:
        first, second = ws.get_connections()
        ws.broadcast("too early", to="a")
        first.join("a")
        first.join("b")
        second.join("b")
        ws.broadcast("1", to=["a", "b"])
        first.send("2")
        ws.broadcast("3")
        ws.broadcast("4", to="b", exclude=second)
        ws.broadcast("5", to="b", exclude=[first])
        ws.broadcast("none", to=[])
        ws.broadcast("none", to="c")
        ws.broadcast("6", to="a")
        first.leave("a")
        ws.broadcast("too late", to="a")
        ws.broadcast("end")
        assert await texts(one) == ["1", "2", "3", "4", "6"]
        assert await texts(other) == ["1", "3", "5"]

    play(scenario)


def test_one_that_closes_has_left_its_rooms_and_still_tells_them() -> None:
    async def scenario(ws: WebSocketServer, one: ClientConnection, other: ClientConnection) -> None:
        told = []
        ws.on_close(lambda conn, code, reason: told.append(conn.rooms))
        first, second = ws.get_connections()
        first.join("a")
        second.join("a")
        ws.broadcast("before", to="a")
        first.close()
        ws.broadcast("behind", to="a")
        assert ws.room_size("a") == 1
        assert not first.join("b")
        assert await one.recv() == "before"
        assert (await close_of(one))[0] == 1000
        assert await other.recv() == "before"
        assert await other.recv() == "behind"
        await one.wait_closed()
        assert first.rooms == {"a"}
        assert told == [{"a"}]

    play(scenario)


def test_a_thread_joins_and_then_sends() -> None:
    async def scenario(ws: WebSocketServer, one: ClientConnection, other: ClientConnection) -> None:
        (first, _), rooms = ws.get_connections(), ["a"]

        def work() -> None:
            assert first.join("a")
            ws.broadcast("1", to=rooms)
            rooms.clear()
            first.leave("a")
            ws.broadcast("2", to="a")
            ws.broadcast("end")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()  # in the loop's thread: it has not got to any of that
        assert (first.rooms, ws.room_size("a")) == (frozenset(), 0)
        assert await texts(one) == ["1"]
        assert await texts(other) == []

    play(scenario)


def test_a_user_changes() -> None:
    async def scenario(ws: WebSocketServer, one: ClientConnection, other: ClientConnection) -> None:
        first, second = ws.get_connections()
        first.user = second.user = "Alice"
        second.user = "Bob"
        first.join("Bob")
        ws.broadcast("for Alice", to=ws.user("Alice"))
        ws.broadcast("for Bob", to=ws.user("Bob"))
        second.user = 7
        ws.broadcast("for Bob", to=ws.user("Bob"))
        ws.broadcast("end")
        assert await texts(one) == ["for Alice"]
        assert await texts(other) == ["for Bob"]
        assert first.rooms == {"Bob"} == set(ws.room_names())

    play(scenario)


test_snippet = check.test()
