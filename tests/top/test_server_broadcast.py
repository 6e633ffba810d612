"""crest.server: broadcasts to every open connection of one server, and to no other."""

import asyncio

import pytest
from support.client import BINARY, CLOSE, TEXT, close_frame, connect, frame, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import App, WebSocketConnection, WebSocketServer

BUFFERS = [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff"), memoryview(b"\x00-\xff")[::2]]


@on_each_loop
async def test_broadcast_reaches_every_open_connection() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server) as one, connect(server) as two, connect(server) as three:
        await opened.reach(3)
        assert ws.broadcast("näws") is None
        for client in (one, two, three):
            assert await client.recv() == "näws"


@pytest.mark.parametrize("data", BUFFERS)
@on_each_loop
async def test_broadcast_binary_takes_any_bytes_like_object(data: bytes | bytearray | memoryview) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server) as one, connect(server) as two:
        await opened.reach(2)
        assert ws.broadcast_binary(data) is None
        assert [await one.recv(), await two.recv()] == [b"\x00\xff", b"\x00\xff"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1_000_000])
@on_each_loop
async def test_a_broadcast_is_one_message_of_any_size(size: int) -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 24), Events()
    ws.on_connect(opened.add)
    text, data = "x" * size, b"\xff" * size
    async with App().listening() as server, connect(server) as client:
        await opened.reach(1)
        ws.broadcast(text)
        ws.broadcast_binary(data)
        assert await client.recv() == text
        assert await client.recv() == data


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_broadcast_from_a_handler_reaches_its_own_connection_too(kind: str) -> None:
    ws = WebSocketServer()
    ws.on_message(of_kind(kind, lambda conn, message: ws.broadcast(message)))
    async with App().listening() as server, connect(server) as one, connect(server) as two:
        await one.send("x")
        assert [await one.recv(), await two.recv()] == ["x", "x"]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_broadcast_from_on_connect_reaches_the_new_connection(kind: str) -> None:
    ws = WebSocketServer()
    ws.on_connect(of_kind(kind, lambda conn: ws.broadcast("somebody came")))
    async with App().listening() as server, connect(server) as one:
        assert await one.recv() == "somebody came"
        async with connect(server) as two:
            assert [await one.recv(), await two.recv()] == ["somebody came"] * 2


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_broadcast_from_on_close_reaches_all_but_the_one_that_left(kind: str) -> None:
    ws = WebSocketServer()
    ws.on_close(of_kind(kind, lambda conn, code, reason: ws.broadcast("somebody left")))
    async with App().listening() as server, connect(server) as one:
        async with upgraded(server) as two:
            await two.send(close_frame(1000))
            assert [frame.opcode for frame in await two.until_close()] == [CLOSE]
            assert await two.eof() == b""
        assert await one.recv() == "somebody left"


@on_each_loop
async def test_a_connection_that_comes_later_does_not_get_what_was_broadcast_before() -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.send("welcome"))
    async with App().listening() as server, connect(server) as one:
        assert await one.recv() == "welcome"
        ws.broadcast("early")
        async with connect(server) as two:
            assert await two.recv() == "welcome"
            ws.broadcast("late")
            assert await two.recv() == "late"
        assert [await one.recv(), await one.recv()] == ["early", "late"]


@on_each_loop
async def test_a_closing_connection_gets_what_was_broadcast_before_and_nothing_after() -> None:
    ws = WebSocketServer()

    def connected(conn: WebSocketConnection) -> None:
        ws.broadcast("before")
        conn.close()
        ws.broadcast("after")

    ws.on_connect(connected)
    async with App().listening() as server, upgraded(server) as client:
        frames = await client.until_close()
        assert [(frame.opcode, frame.payload) for frame in frames[:-1]] == [(TEXT, b"before")]


@on_each_loop
async def test_servers_do_not_hear_each_others_broadcasts() -> None:
    app, chat, game = App(), WebSocketServer("/chat"), WebSocketServer("/game")
    opened = Events()
    chat.on_connect(opened.add)
    game.on_connect(opened.add)
    async with app.listening() as server, connect(server, "/chat") as one, connect(server, "/game") as two:
        await opened.reach(2)
        chat.broadcast("for chat")
        game.broadcast("for game")
        assert [await one.recv(), await two.recv()] == ["for chat", "for game"]


@on_each_loop
async def test_a_broadcast_before_the_server_runs_and_after_does_nothing() -> None:
    ws = WebSocketServer()
    ws.broadcast("nobody")
    async with App().listening() as server, connect(server) as client:
        await client.close()
    ws.broadcast("nobody")
    ws.broadcast_binary(b"nobody")


@on_each_loop
async def test_a_mutable_buffer_may_be_changed_after_broadcast_binary() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 24), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server) as client:
        await opened.reach(1)
        for size in (10, 10_000, 70_000, 500_000):
            data = bytearray(b"a" * size)
            ws.broadcast_binary(data)
            data[:] = b"b" * size
            assert await client.recv() == b"a" * size


@on_each_loop
async def test_broadcasts_arrive_in_the_order_of_the_calls_whatever_their_sizes() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 24), Events()
    ws.on_connect(opened.add)
    messages = [str(i) * size for i, size in enumerate([1, 200, 70_000, 5, 300_000, 1, 66_000, 2, 9_000])]
    async with App().listening() as server, connect(server) as client:
        await opened.reach(1)
        for message in messages:
            ws.broadcast(message)
        assert [await client.recv() for _ in messages] == messages


@on_each_loop
async def test_many_connections_all_get_all_in_order() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, asyncio.TaskGroup() as group:

        async def listen() -> None:
            async with upgraded(server) as client:
                for i in range(50):
                    assert (await client.frame()).payload == b"%d" % i

        for _ in range(50):
            group.create_task(listen())
        await opened.reach(50)
        for i in range(50):
            ws.broadcast(str(i))
            if i % 7 == 0:
                await asyncio.sleep(0)


@on_each_loop
async def test_text_and_binary_broadcasts_carry_their_opcodes() -> None:
    ws = WebSocketServer()

    def received(conn: WebSocketConnection, message: str) -> None:
        ws.broadcast("text")
        ws.broadcast_binary(b"binary")

    ws.on_message(received)
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        assert [tuple(await client.frame())[:2] for _ in range(2)] == [(TEXT, b"text"), (BINARY, b"binary")]


@pytest.mark.parametrize("wrong", [b"bytes", bytearray(b"x"), 1, None, ["x"]])
def test_broadcast_takes_only_str(wrong: object) -> None:
    with pytest.raises(TypeError, match="str" if wrong is not None else "must not be None"):
        WebSocketServer().broadcast(wrong)  # type: ignore[arg-type]


def test_broadcast_of_bytes_names_the_right_method() -> None:
    with pytest.raises(TypeError, match=r"broadcast\(\) takes str, not bytes; broadcast_binary\(\) takes bytes"):
        WebSocketServer().broadcast(b"bytes")  # type: ignore[arg-type]


def test_broadcast_binary_of_text_names_the_right_method() -> None:
    text = r"broadcast_binary\(\) takes a bytes-like object, not str; broadcast\(\) takes str"
    with pytest.raises(TypeError, match=text):
        WebSocketServer().broadcast_binary("text")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [1, 1.5, ["x"], object()])
def test_broadcast_binary_takes_only_bytes_like_objects(wrong: object) -> None:
    with pytest.raises(TypeError, match="takes a bytes-like object, not " + type(wrong).__name__):
        WebSocketServer().broadcast_binary(wrong)  # type: ignore[arg-type]


def test_broadcast_of_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        WebSocketServer().broadcast("\ud800")
