"""docs/admission.md: each of its snippets, to clients that may come in and others."""

from contextlib import AsyncExitStack

from support.client import TEXT, Server, connect, frame, handshake, tcp, upgraded
from support.snippets import Checks, Stage, close_of, get, refusal

check = Checks()


@check("admission#deciding-who-it-is")
def deciding(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server, additional_headers={"Cookie": "session=3f1c9a"}) as alice:
            assert await alice.recv() == "Welcome, Alice!"
        assert await refusal(server, {"Cookie": "session=3f1c9b"}) == (401, b"sign in first\n")

    stage.serve(stage.fragment()["app"], scenario)


@check("admission#deciding-who-it-is/2")
def deciding_later(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with upgraded(server, "/ws?token=42"):
            (conn,) = names["ws"].get_connections()
            assert conn.user == "Alice"
        assert await refusal(server) == (403, b"no such token\n")

    stage.serve(names["app"], scenario)


@check("admission#origins")
def origins(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for origin in ("http://test", "https://chat.example", "https://a.chat.example"):
            async with upgraded(server, changed={"Origin": origin}):
                pass
        for origin in ("https://other.example", "https://a.b.chat.example", "null"):
            assert (await refusal(server, {"Origin": origin}))[0] == 403

    stage.serve(stage.execute()["app"], scenario)


@check("admission#hosts")
def hosts(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for host in ("chat.example", "a.chat.example", "localhost:8000", "127.0.0.1:8000"):
            async with upgraded(server, changed={"Host": host}):
                pass
        for host in ("evil.example", "localhost:8001"):
            status, reason = await refusal(server, {"Host": host})
            assert status == 421 and b"hosts" in reason

    stage.serve(stage.execute()["app"], scenario)


@check("admission#before-the-websocket")
def before_the_websocket(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        assert (await get(server, "/report")).body == b"rendered"
        async with AsyncExitStack() as clients:
            for _ in range(20):
                await clients.enter_async_context(upgraded(server))
            async with tcp(server) as client:
                assert await client.eof() == b""

    async def rendered_report() -> str:
        return "rendered"

    stage.serve(stage.execute({"rendered_report": rendered_report})["app"], scenario)


@check("admission#how-many")
def how_many(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with AsyncExitStack() as clients:
            for _ in range(20):
                await clients.enter_async_context(upgraded(server))
            assert (await refusal(server))[0] == 429

    stage.serve(stage.execute()["app"], scenario)


@check("admission#how-often")
def how_often(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for _ in range(10):
            async with upgraded(server):
                pass
        async with tcp(server) as client:
            await client.send(handshake())
            answer = await client.answer()
        assert (answer.status, answer.headers["retry-after"]) in ((429, "1"), (429, "2"))

    stage.serve(stage.execute()["app"], scenario)


@check("admission#how-much")
def how_much(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        for flood, text in (
            (frame(TEXT, "x") * 51, "message_rate: 10 "),
            (frame(TEXT, "x" * 65_536), "byte_rate: 65536 "),
        ):
            async with upgraded(server) as client:
                await client.send(flood)
                (close,) = await client.until_close()
                assert close.code == 1008
                assert text in close.reason

    names = stage.execute()
    names["ws"].on_message(lambda conn, message: None)
    stage.serve(names["app"], scenario)


@check("admission#limits-of-one-connection")
def limits_of_one_connection(stage: Stage) -> None:
    names = stage.execute()
    names["ws"].on_message(lambda conn, message: conn.send(conn.user))

    async def scenario(server: Server) -> None:
        async with connect(server, additional_headers={"Authorization": "Bearer 42"}) as alice:
            await alice.send("x" * 5000)
            assert await alice.recv() == "Alice"
        async with connect(server) as guest:
            await guest.send("x" * 5000)
            assert (await close_of(guest))[0] == 1009

    stage.serve(names["app"], scenario)


@check("admission#behind-proxies")
def behind_proxies(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server, changed={"X-Forwarded-For": "192.0.2.7"}):
            pass

    stage.serve(stage.execute()["app"], scenario)
    assert stage.output() == "connected: 192.0.2.7\n"


@check("admission#the-proxy-protocol")
def proxy_protocol(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with tcp(server) as client:
            await client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
            await client.upgrade()
        async with tcp(server) as client:
            await client.send(handshake())
            assert await client.eof() == b""

    stage.serve(stage.execute()["app"], scenario)
    assert stage.output() == "connected: ('192.0.2.7', 56324)\n"


@check("admission#what-was-refused")
def what_was_refused(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        assert (await refusal(server, {"Origin": "null"}))[0] == 403
        assert (await get(server, "/metrics")).body == b'{"open":0,"refused":{"origin":1},"before":{}}'

    stage.serve(stage.fragment()["app"], scenario)


test_snippet = check.test()
