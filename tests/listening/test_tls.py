"""crest.listening.tls: WebSockets and pages over TLS, another certificate, and other loops."""

import asyncio
import gc
import logging
import shutil
import socket
import ssl
from asyncio.subprocess import PIPE, STDOUT
from typing import Any

import pytest
from support.browser import browsing, require_browser
from support.certificates import Pair
from support.client import GUARD, TEXT, Client, close_frame, connect, frame, request, tcp, upgraded
from support.events import Events, on_each_loop
from support.tls import OURS, SNIFFS, echo, lines, served
from websockets.sync.client import connect as blocking_connect

from crest import App, Request, WebSocketServer

# ---- What it serves --------------------------------------------------------------------------------------------------


@on_each_loop
async def test_wss_echoes_and_closes(pair: Pair, direct: bool) -> None:
    ws, events = echo(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with served(pair, direct) as server:
        async with connect(server, ws.path, ssl=pair.client(), max_size=None) as client:
            for message in ("", "Grüße", b"\x00" * 70_000, "x" * (1 << 22)):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4000, "bye")
            assert client.close_code == 4000
        assert await events.reach(1) == [(4000, "bye")]


@on_each_loop
async def test_requests_say_https_and_where_they_come_from(
    pair: Pair, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, ws, events = App(), WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn.request.scheme, conn.remote_address))

    @app.get("/page")
    def page(request: Request) -> str:
        return request.scheme

    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct) as server:
            where = f"127.0.0.1:{server.port}"
            assert server.urls == [f"https://{where}"]
            async with upgraded(server, tls=pair.client()) as client:
                assert await events.reach(1) == [("https", client.address)]
            async with tcp(server, tls=pair.client()) as client:
                await client.send(request("/page"))
                assert (await client.answer()).body == b"https"
    assert lines(caplog)[0] == f"Listening on https://{where} (WebSocket: wss://{where}/ws)"


@on_each_loop
async def test_nothing_is_left_of_a_connection_that_has_ended(pair: Pair, direct: bool) -> None:
    def left() -> int:
        gc.collect()
        return sum(type(each).__name__ == ("SSLObject" if direct else "SSLProtocol") for each in gc.get_objects())

    before, ws, events = left(), echo(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with served(pair, direct) as server:
        for _ in range(3):
            async with upgraded(server, ws.path, tls=pair.client()) as client:
                await client.send(close_frame(1000))
                await client.until_close()
        assert await events.reach(3) == [1000] * 3
    del client  # has one of its own
    async with asyncio.timeout(GUARD):
        while left() > before:
            await asyncio.sleep(0)


@on_each_loop
async def test_a_context_of_the_programs_own(pair: Pair, direct: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certfile, pair.keyfile)
    ws = echo()
    async with (
        App().listening(ssl=context, direct=direct) as server,
        connect(server, ws.path, ssl=pair.client()) as client,
    ):
        await client.send("hello")
        assert await client.recv() == "hello"


@on_each_loop
async def test_alpn_offers_http_1_1(pair: Pair, direct: bool) -> None:
    context = pair.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with served(pair, direct) as server, tcp(server, tls=context) as client:
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


@on_each_loop
async def test_a_client_renews_the_keys(pair: Pair, direct: bool) -> None:
    """A KeyUpdate (RFC 8446 section 4.6.3), which OpenSSL's command can send on request; `K` wants one in return."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    echo()
    async with served(pair, direct) as server:
        client = await asyncio.create_subprocess_exec(
            openssl, "s_client", "-connect", f"127.0.0.1:{server.port}", stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        assert client.stdin is not None and client.stdout is not None
        await client.stdout.readuntil(b"Verify return code")
        for command in (b"k\n", b"K\n", b"K\n"):
            client.stdin.write(command)
            await client.stdout.readuntil(b"KEYUPDATE")
        client.stdin.write(request("/nothing"))
        assert b"404 Not Found" in await client.stdout.readuntil(b"not found\n")
        client.kill()
        await client.wait()


def test_a_browser_speaks_wss(pair: Pair, direct: bool) -> None:
    require_browser()
    app, ws = App(), echo()
    app.get("/")(lambda request: "<!doctype html><title>wss</title>")
    script = """new Promise((resolve, reject) => {
        const ws = new WebSocket(`wss://${location.host}%s`);
        ws.onopen = () => ws.send("hello");
        ws.onmessage = (event) => { ws.close(4000, event.data); };
        ws.onclose = (event) => resolve([event.code, event.reason, event.wasClean]);
    })"""

    async def main() -> None:
        async with app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct) as server:
            async with browsing("--ignore-certificate-errors") as browser:
                page = await browser.open(f"https://127.0.0.1:{server.port}/")
                assert await page.evaluate(script % ws.path) == [4000, "hello", True]

    asyncio.run(main())


# ---- Another certificate ---------------------------------------------------------------------------------------------


def shown(client: Client) -> bytes:
    """The certificate that the server has shown, as DER."""
    certificate = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert isinstance(certificate, bytes)
    return certificate


@SNIFFS
@on_each_loop
async def test_reload_is_for_new_connections_and_keeps_the_others(
    tmp_path: Any, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pair, ws = Pair(tmp_path), echo()
    with caplog.at_level(logging.INFO, "crest"):
        async with served(pair, direct) as server, upgraded(server, ws.path, tls=pair.client()) as old:
            pair.make("rsa")
            new_context = pair.client()
            server.reload()
            async with upgraded(server, ws.path, tls=new_context) as new:
                assert shown(new) != shown(old)
                for client in (old, new):
                    await client.send(frame(TEXT, "hello"))
                    assert (await client.frame()).payload == b"hello"
            pair.keyfile.write_text("broken")
            server.reload()
            async with tcp(server, tls=new_context) as new:
                assert shown(new) != shown(old)
    said = [line for line in lines(caplog) if "certificate" in line]
    key = pair.keyfile
    assert said == [
        "The certificate was read again",
        f"The certificate remains as it was: cannot serve TLS: {key}: there is no private key in it, as PEM",
    ]


# ---- Other loops -----------------------------------------------------------------------------------------------------


class Strict(asyncio.SelectorEventLoop):
    """A loop that watches descriptors, and no other objects that have one."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        assert type(fd) is int
        return super().add_reader(fd, callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        assert type(fd) is int
        return super().remove_reader(fd)


def rust_loop() -> asyncio.AbstractEventLoop:
    made: asyncio.AbstractEventLoop = pytest.importorskip("rloop", reason="rloop has no wheel here").new_event_loop()
    return made


@OURS
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # rloop's own pair
@pytest.mark.parametrize("loop_factory", [Strict, rust_loop])
def test_loops_that_watch_descriptors_only(loop_factory: Any, pair: Pair) -> None:
    """crest waits for the first byte of a connection, and then for its own transports."""

    def talk(port: int) -> list[str | bytes]:
        with blocking_connect(
            f"wss://127.0.0.1:{port}/ws", ssl=pair.client(), proxy=None, open_timeout=GUARD
        ) as client:
            client.send("x" * 100_000)
            return [client.recv(GUARD)]

    async def main() -> None:
        app, ws = App(), echo()
        app.mount("/ws", ws)
        async with app.listening(certfile=pair.certfile, keyfile=pair.keyfile) as server:
            silent = socket.create_connection(server.address)  # is awaited, whether others are quick or not
            assert await asyncio.to_thread(talk, server.port) == ["x" * 100_000]
            silent.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
