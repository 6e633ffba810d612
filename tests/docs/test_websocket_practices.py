"""docs/websocket.md: its best practices."""

import pytest
from support.client import PING, PONG, TEXT, Server, connect, frame, request, tcp, upgraded
from support.snippets import Checks, Stage, close_of, get, prelude, refusal

check = Checks()


@check("websocket#heartbeat")
def heartbeat(stage: Stage) -> None:
    names = stage.execute(prelude())
    names["app"].mount("/beating", names["ws"])

    async def scenario(server: Server) -> None:
        async with upgraded(server, "/beating") as client:
            await client.send(frame(TEXT, "how far?"))
            await client.round_trip()
            (conn,) = names["ws"].get_connections()
            conn.ping()
            ping = await client.frame()
            assert ping.opcode == PING
            await client.send(frame(PONG, ping.payload), frame(TEXT, "how far?"))
            assert (await client.frame()).payload.endswith(b" ms")

    stage.serve(names["app"], scenario)


@check("websocket#use-json-for-structured-messages")
def json_messages(stage: Stage) -> None:
    stage.answers(stage.fragment()["app"], '{"type":"ping","number":7}', '{"type": "pong", "number": 7}')


@check("websocket#authenticate-first")
def authenticate(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server, additional_headers={"Cookie": "session=3f1c9a"}) as alice:
            assert await alice.recv() == "Welcome, Alice!"
            assert await refusal(server) == (401, b"log in first\n")
            assert (await refusal(server, {"Cookie": "session=3f1c9a", "Origin": "https://evil.example"}))[0] == 403

    stage.serve(names["app"], scenario)


@check("websocket#set-message-size-limits")
def message_size_limits(stage: Stage) -> None:
    names = stage.execute()
    names["ws"].on_message(lambda conn, message: conn.send(str(len(message))))

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send("x" * 65536)
            assert await client.recv() == "65536"
            await client.send("x" * 65537)
            assert (await close_of(client))[0] == 1009
        async with tcp(server) as plain:
            await plain.send(request("/ws", {"Host": "test", "X": "x" * 8192}))
            assert (await plain.answer()).status == 431

    stage.serve(names["app"], scenario)


@check("websocket#clean-up-on-disconnect")
def clean_up(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server), upgraded(server):
            assert list(names["players"].values()) == [{"x": 0, "y": 0}] * 2

    stage.serve(names["app"], scenario)
    assert names["players"] == {}


@check("websocket#several-websockets-in-one-app")
def several(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "127.0.0.1", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server, "/lobby") as lobby, connect(server, "/game") as game:
            await lobby.send("Hello")
            await game.send("e4")
            assert await lobby.recv() == "Hello"
            assert await game.recv() == "e4"

    stage.serve(app, scenario)


@check("websocket#pages-beside-the-websocket")
def pages(stage: Stage) -> None:
    stage.monkeypatch.chdir(stage.folder)
    (stage.folder / "assets").mkdir()
    (stage.folder / "assets" / "style.css").write_text("p { color: red }")

    async def scenario(server: Server) -> None:
        async with connect(server):
            assert (await get(server, "/health")).body == b'{"status":"ok","connections":1}'
        assert (await get(server, "/assets/style.css")).body == b"p { color: red }"

    stage.serve(stage.fragment()["app"], scenario)


@check("websocket#testing-your-app")
def program_with_a_test(stage: Stage) -> None:
    stage.execute()
    broken = stage.snippet.code.replace("conn.send(message)", "conn.send(message[1:])")
    stage.snippet = stage.snippet._replace(code=broken)
    with pytest.raises(AssertionError):
        stage.execute()


test_snippet = check.test()
