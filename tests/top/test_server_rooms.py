"""crest.server and crest.connection: rooms, users' rooms, and sending to a connection by its id, over real sockets."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from support.client import close_frame, connect, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import Accept, App, Deflate, Presence, UserRoom, WebSocketConnection, WebSocketServer


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_message_to_a_room_reaches_its_members_and_skips_the_sender(kind: str) -> None:
    ws, opened = WebSocketServer(), Events()

    @ws.on_connect
    def connected(conn: WebSocketConnection) -> None:
        conn.join(conn.request.query["room"])
        opened.add(conn)

    ws.on_message(of_kind(kind, lambda conn, message: ws.broadcast(message, to=conn.rooms, exclude=conn)))
    async with (
        App().listening() as server,
        connect(server, "/ws?room=a") as one,
        connect(server, "/ws?room=a") as two,
        connect(server, "/ws?room=b") as three,
    ):
        await opened.reach(3)
        await one.send("hello")
        assert await two.recv() == "hello"
        ws.broadcast("all")
        assert [await each.recv() for each in (one, two, three)] == ["all"] * 3


@on_each_loop
async def test_rooms_are_counted_and_named() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn.join("a")))
    ws.on_close(lambda conn, code, reason: events.add(conn.rooms))
    async with App().listening() as server:
        async with connect(server), connect(server):
            assert await events.reach(2) == [True, True]
            assert ws.room_size("a") == 2
            assert ws.room_names() == ["a"]
            assert ws.room_size("b") == 0
        assert (await events.reach(4))[2:] == [{"a"}, {"a"}]
        assert ws.room_names() == []
    assert ws.room_size("a") == 0
    for wrong in (None, 1, b"a"):
        with pytest.raises(TypeError):
            ws.room_size(wrong)  # type: ignore[arg-type]


@on_each_loop
async def test_who_is_there_without_workers() -> None:
    ws, conns = WebSocketServer(user_key="name"), Events()
    ws.on_upgrade(lambda request: {"name": name} if (name := request.query.get("name")) else None)
    ws.on_connect(conns.add)
    async with App().listening() as server, connect(server, "/ws?name=ann"), connect(server), connect(server):
        ann, one, other = await conns.reach(3)
        for conn, rooms in ((ann, "ab"), (one, "b"), (other, "c")):
            for room in rooms:
                conn.join(room)
        assert await ws.count() == 3
        assert [await ws.count(to=to) for to in ("a", "b", "z", ["a", "b"], ["a", "c"], [])] == [1, 2, 0, 2, 2, 0]
        names = {conn.user and conn.user["name"]: conn for conn in (ann, one)}
        found = await ws.members("b")
        assert sorted(found) == sorted(Presence(conn.get_id(), name) for name, conn in names.items())
        (user,) = [conn for conn in (ann, one, other) if conn.user]
        assert await ws.members(ws.user("ann")) == [Presence(user.get_id(), "ann")]
        assert await ws.count(to=ws.user("ann")) == 1
    assert await ws.count() == 0 and await ws.members("b") == []


@pytest.mark.parametrize("wrong", [1, b"a", ""])
@on_each_loop
async def test_what_is_no_room_has_no_members(wrong: Any) -> None:
    ws = WebSocketServer()
    for call in (lambda: ws.members(wrong), lambda: ws.count(to=wrong)):
        with pytest.raises((TypeError, ValueError)):
            await call()


def test_before_any_app_runs() -> None:
    ws = WebSocketServer()
    ws.broadcast("x", to="a")
    assert ws.room_names() == []
    assert ws.room_size("a") == ws.room_size(ws.user("a")) == 0
    assert ws.send_to("0-1", "x") is False


# ---- Users -----------------------------------------------------------------------------------------------------------

USERS: list[tuple[str | None, Any]] = [
    (None, "alice"),
    ("name", "alice"),
    ("name", {"name": "alice"}),
    ("name", SimpleNamespace(name="alice")),
]


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize(("key", "user"), USERS)
@on_each_loop
async def test_a_users_connections_are_in_its_room(key: str | None, user: Any, accepted: bool) -> None:
    ws, opened = WebSocketServer(user_key=key), Events()
    ws.on_upgrade(lambda request: (Accept(user) if accepted else user) if request.query["as"] == "alice" else "bob")

    @ws.on_connect
    def connected(conn: WebSocketConnection) -> None:
        ws.broadcast("welcome", to=ws.user("alice"))
        opened.add(conn)

    async with App().listening() as server, connect(server, "/ws?as=alice") as one:
        assert await one.recv() == "welcome", "it was in the room before its handler ran"
        async with connect(server, "/ws?as=alice") as two, connect(server, "/ws?as=bob") as three:
            await opened.reach(3)
            assert [await one.recv(), await one.recv()] == ["welcome"] * 2
            await two.recv()
            ws.broadcast("x", to=ws.user("alice"))
            ws.broadcast("y", to=ws.user("bob"))
            assert await one.recv() == "x"
            assert await three.recv() == "y"
            assert ws.room_size(ws.user("alice")) == 2
            assert ws.room_names() == []


class Named:
    name = 7


@pytest.mark.parametrize(
    ("key", "user"),
    [(None, {"name": "alice"}), (None, 7), ("name", {}), ("name", {"name": ""}), ("name", Named()), ("name", object())],
)
@on_each_loop
async def test_users_without_a_name_have_no_room(key: str | None, user: Any) -> None:
    ws, opened = WebSocketServer(user_key=key), Events()
    ws.on_upgrade(lambda request: user)
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server):
        (conn,) = await opened.reach(1)
        assert conn.user is user
        assert ws.room_size(ws.user("alice")) == 0
        conn.user = "alice" if key is None else {"name": "alice"}
        assert ws.room_size(ws.user("alice")) == 1
        conn.user = None
        assert ws.room_size(ws.user("alice")) == 0


@pytest.mark.parametrize(("value", "error"), [(1, TypeError), (b"name", TypeError), ("", ValueError)])
def test_what_is_no_user_key(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="user_key"):
        WebSocketServer(user_key=value)


def test_what_user_returns() -> None:
    ws = WebSocketServer()
    assert ws.user("alice") == UserRoom("alice") == WebSocketServer().user("alice")
    for wrong, error in ((None, TypeError), (7, TypeError), ("", ValueError)):
        with pytest.raises(error, match="user's name"):
            ws.user(wrong)  # type: ignore[arg-type]


class Users(Mapping[str, object]):
    """A mapping that is no dict."""

    def __getitem__(self, key: str) -> object:
        return {"name": "alice"}[key]

    def __iter__(self) -> Any:
        raise AssertionError("nothing has to be listed")

    def __len__(self) -> int:
        return 1


@on_each_loop
async def test_a_mapping_of_any_kind() -> None:
    ws, opened = WebSocketServer(user_key="name"), Events()
    ws.on_upgrade(lambda request: Users())
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server):
        await opened.reach(1)
        assert ws.room_size(ws.user("alice")) == 1


# ---- By id -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@on_each_loop
async def test_to_the_connection_that_has_an_id(compressed: bool) -> None:
    ws, opened = WebSocketServer(compression=Deflate() if compressed else None), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server) as one:
        (first,) = await opened.reach(1)
        assert ws.send_to(first.get_id(), "1") is True
        async with connect(server) as two:
            second = (await opened.reach(2))[1]
            assert ws.send_to(second.get_id(), "2") is True
            assert ws.send_binary_to(first.get_id(), bytearray(b"3")) is True
            assert await asyncio.to_thread(ws.send_to, second.get_id(), "4") is True
            assert [await one.recv(), await one.recv()] == ["1", b"3"]
            assert [await two.recv(), await two.recv()] == ["2", "4"]
        first.close()
        assert ws.send_to(first.get_id(), "5") is False
        assert ws.send_to(second.get_id(), "6") is False


@pytest.mark.parametrize("change", [lambda own: f"0{own}", lambda own: own + "0", lambda own: own.upper() + "_0"])
@pytest.mark.parametrize("wrong", ["", "-", "0-1", "x", "\ud800-1", "-1", " "])
@on_each_loop
async def test_ids_of_no_connection(wrong: str, change: Any) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server):
        (conn,) = await opened.reach(1)
        assert ws.send_to(wrong, "x") is False
        assert ws.send_to(change(conn.get_id()), "x") is False
        process, _, number = conn.get_id().rpartition("-")
        for other in (f"{process}-0x{number}", f"{process}-+{number}", f"{process}- {number}", f"{process}-0{number}"):
            assert ws.send_binary_to(other, b"x") is False
        for no_id in (None, 1, b"0-1", conn):
            with pytest.raises(TypeError, match="a connection's id must be str"):
                ws.send_to(no_id, "x")


@on_each_loop
async def test_wrong_messages_by_id() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server):
        (conn,) = await opened.reach(1)
        with pytest.raises(TypeError, match="send_binary"):
            ws.send_to(conn.get_id(), b"x")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bytes-like"):
            ws.send_binary_to(conn.get_id(), "x")  # type: ignore[arg-type]


# ---- The end ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_server_that_is_served_again_has_no_rooms() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(lambda conn: opened.add(conn.join("a")))
    app = App()
    for round_ in (1, 2):
        async with app.listening() as server, connect(server) as client:
            await opened.reach(round_)
            assert ws.room_size("a") == 1
            ws.broadcast("x", to="a")
            assert await client.recv() == "x"
        assert ws.room_size("a") == 0


@on_each_loop
async def test_the_peer_closes_within_a_room() -> None:
    ws, opened, ended = WebSocketServer(), Events(), Events()
    ws.on_connect(lambda conn: opened.add(conn.join("a")))
    ws.on_close(lambda conn, code, reason: ended.add(ws.broadcast("gone", to=conn.rooms)))
    async with App().listening() as server, connect(server) as other:
        async with upgraded(server) as leaving:
            await opened.reach(2)
            await leaving.send(close_frame(1000))
            await ended.reach(1)
        assert await other.recv() == "gone"
