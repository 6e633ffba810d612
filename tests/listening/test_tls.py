"""crest.listening.tls: WebSockets and pages over TLS, what does not speak it, and how connections end."""

import asyncio
import gc
import logging
import re
import shutil
import socket
import ssl
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from support.browser import browsing, require_browser
from support.certificates import Pair
from support.client import BINARY, CLOSE, GUARD, PING, TEXT, Client, close_frame, connect, frame, request, tcp, upgraded
from support.events import Events, on_each_loop, until
from support.keyupdates import SIZE, key_updates
from websockets.sync.client import connect as blocking_connect

from crest import App, Request, WebSocketConnection, WebSocketServer
from crest.io.loop.poller import Poller
from crest.listening.listener import Listener
from crest.opening.site import Site

SNIFFS = pytest.mark.skipif(not Poller.exists, reason="there, what is not TLS is only cut off")


def echo() -> WebSocketServer:
    """A server that sends everything back."""
    ws = WebSocketServer(max_message_size=1 << 26)
    ws.on_message(lambda conn, message: conn.send(message))
    ws.on_binary(lambda conn, data: conn.send_binary(data))
    return ws


def served(pair: Pair, direct: bool, **options: Any) -> Any:
    """A new app, listening with TLS."""
    return App(**options).listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct)


OURS = pytest.mark.skipif(not Poller.exists, reason="the loop's transports do not tell of TLS's own records")

OP_ALLOW_CLIENT_RENEGOTIATION = 1 << 8
"""Of OpenSSL 3, which does not allow it otherwise; Python's ssl has no name for it."""


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crest"]


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


# ---- What TLS answers by itself --------------------------------------------------------------------------------------


@OURS
@on_each_loop
async def test_records_of_tls_alone_count_as_bytes(pair: Pair) -> None:
    """A client that renews its keys again and again is as busy as one that sends as many bytes."""
    ws, events = WebSocketServer(max_byte_rate=(1, 20_000)), Events()
    ws.on_error(lambda conn, error: events.add(str(error)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    listening = App().listening(certfile=pair.certfile, keyfile=pair.keyfile)
    async with listening as server, upgraded(server, tls=pair.client()) as client:
        tls = client.writer.get_extra_info("ssl_object")
        few = 19_000 // SIZE
        key_updates(tls, few)
        await client.send(frame(PING, b"still here"))
        assert (await client.frame()).payload == b"still here"
        key_updates(tls, 2000 // SIZE)
        await client.send(frame(PING, b""))
        *_, close = await client.until_close()
        assert (close.opcode, close.code) == (CLOSE, 1008)
        error, code = await events.reach(2)
        assert error.endswith(": over max_byte_rate: 1 bytes a second, 20000 at once") and code == 1008


@OURS
@on_each_loop
async def test_a_client_that_demands_answers_and_reads_none_is_not_alive(pair: Pair) -> None:
    """What it has sent beyond that is not read, and no sign of life."""
    ws, events = WebSocketServer(ping_interval=0.2, ping_timeout=0.2, close_timeout=0.2), Events()
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    listening = App().listening(certfile=pair.certfile, keyfile=pair.keyfile)
    async with listening as server:
        for each in server.sockets:  # accepted ones inherit it
            with socket.fromfd(each.fileno(), each.family, each.type) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        async with tcp(server, receive_buffer=4096, tls=pair.client()) as client:
            await client.upgrade()
            client.stop_reading()
            key_updates(client.writer.get_extra_info("ssl_object"), 40_000)
            client.writer.write(frame(PING, b""))
            assert await events.reach(1) == [(1011, "ping timeout: nothing came for 0.2 s")]
            client.reset()


@OURS
@on_each_loop
async def test_without_a_request_so_many_of_them_are_the_end(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """As many as a client may ever want, and no more."""
    listening = App(open_timeout=GUARD).listening(certfile=pair.certfile, keyfile=pair.keyfile)
    with caplog.at_level(logging.INFO, "crest"):
        async with listening as server, tcp(server, tls=pair.client()) as client:
            tls = client.writer.get_extra_info("ssl_object")
            for _ in range(2):  # each request begins anew
                key_updates(tls, 2000)
                await client.send(request("/page"))
                assert (await client.answer()).status == 404
            key_updates(tls, 5000)
            await client.send(b"G")
            assert await client.eof() == b""
    (line,) = [each for each in lines(caplog) if each.startswith("Refused")]
    assert re.fullmatch(r"Refused a connection of .*: it sent \d+ bytes of TLS records without a request", line)


@pytest.mark.parametrize("own", [True, False])
@on_each_loop
async def test_nobody_may_renegotiate(own: bool, pair: Pair, direct: bool) -> None:
    """TLS 1.2 could, at a cost for the server that is a client's to choose; a context of the program's own has that
    switched off, too. The client is OpenSSL's command, for which R is the wish."""
    found = shutil.which("openssl")
    if found is None:
        pytest.skip("the openssl command is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certfile, pair.keyfile)
    context.options &= ~ssl.OP_NO_RENEGOTIATION
    context.options |= OP_ALLOW_CLIENT_RENEGOTIATION
    of = {"ssl": context} if own else {"certfile": pair.certfile, "keyfile": pair.keyfile}
    async with App().listening(**of, direct=direct) as server:  # type: ignore[arg-type]
        command = [found, "s_client", "-tls1_2", "-connect", f"127.0.0.1:{server.port}"]
        client = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
        assert client.stdout is not None and client.stdin is not None
        async with asyncio.timeout(GUARD):
            await client.stdout.readuntil(b"Verify return code")
            client.stdin.write(b"R\n")
            said = await client.stdout.read()
            await client.wait()
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said


# ---- What does not speak TLS -----------------------------------------------------------------------------------------


@SNIFFS
@pytest.mark.parametrize("data", [request("/"), b"\x80\x2e\x01\x00\x02", b"\r", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"])
@on_each_loop
async def test_what_is_not_tls_is_told_so(data: bytes, pair: Pair, direct: bool) -> None:
    async with served(pair, direct) as server, tcp(server) as client:
        await client.send(data)
        answer = await client.answer()
        assert answer.status == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.body == b"this port speaks HTTPS: the address begins with https:// or wss://\n"
        assert await client.eof() == b""


@on_each_loop
async def test_tls_where_none_is_spoken_is_answered_in_plain_text(pair: Pair) -> None:
    async with App().listening() as server:
        with pytest.raises(ssl.SSLError):
            async with tcp(server, tls=pair.client()):
                pass


@SNIFFS
@on_each_loop
async def test_handshakes_that_fail_are_a_line_and_a_count(
    pair: Pair, direct: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crest.admission.refusals.PAUSE", 1000)
    distrustful = ssl.create_default_context()
    with caplog.at_level(logging.INFO):
        async with served(pair, direct) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                async with tcp(server, tls=distrustful):
                    pass
            async with tcp(server) as client:
                await client.send(b"\x16garbage that is no record")
                await client.eof()
            async with tcp(server) as client:
                await client.send(b"\x16")
            async with tcp(server):
                pass
            async with tcp(server) as client:
                await client.send(b"\x16\x03")
                client.reset()
            async with tcp(server, tls=pair.client()):
                pass
    assert [record for record in caplog.records if record.levelno > logging.INFO or record.exc_info] == []
    first, others = [line for line in lines(caplog) if line.startswith("Refused")]
    assert re.fullmatch(r"Refused a connection of \('127.0.0.1', \d+\): the TLS handshake failed: .+", first)
    assert re.fullmatch(r"Refused [2-9] more like the last one \(tls\)", others)


@SNIFFS
@pytest.mark.parametrize("begun", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
@on_each_loop
async def test_a_client_that_stops_within_the_handshake_is_cut_off(
    begun: bytes, pair: Pair, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "crest"):
        async with served(pair, direct, open_timeout=0.1) as server, tcp(server) as client:
            await client.send(begun)
            assert await client.eof() == b""
    assert any("no TLS handshake within 0.1 s" in line for line in lines(caplog))


@SNIFFS
@pytest.mark.parametrize("begun", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
@on_each_loop
async def test_shutdown_does_not_wait_for_handshakes(begun: bytes, pair: Pair, direct: bool) -> None:
    ws = echo()
    async with asyncio.timeout(GUARD), served(pair, direct, open_timeout=1000, shutdown_timeout=1000) as server:
        async with tcp(server) as client, upgraded(server, ws.path, tls=pair.client()) as other:
            await client.send(begun)
            await other.send(frame(TEXT, "hello"))  # by now the first has been accepted
            assert (await other.frame()).payload == b"hello"
            stopping = asyncio.create_task(server.stop())
            assert (await other.frame()).code == 1012
            await other.close()
            await stopping
            assert await client.eof() == b""


@SNIFFS
@pytest.mark.parametrize("speaks", ["plain text", "TLS"])
@on_each_loop
async def test_shutdown_at_the_moment_when_a_connection_is_made(
    speaks: str, pair: Pair, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Site.opened

    def stop_as_well(self: Site, *args: Any) -> Any:
        opening = opened(self, *args)
        server.stop_accepting()
        return opening

    monkeypatch.setattr(Site, "opened", stop_as_well)
    echo()
    async with served(pair, direct, open_timeout=1, shutdown_timeout=1000) as server:
        if speaks == "TLS":
            with suppress(OSError):
                async with tcp(server, tls=pair.client()) as client:
                    await client.eof()
        else:
            async with tcp(server) as client:
                await client.send(request("/"))
                await client.eof()
    assert server.protocols == []


# ---- Handshakes in progress ------------------------------------------------------------------------------------------


@SNIFFS
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"max_tls_handshakes": 2}, "max_tls_handshakes"),
        ({"max_tls_handshakes_per_ip": 2}, "max_tls_handshakes_per_ip"),
    ],
)
@on_each_loop
async def test_more_handshakes_at_a_time_are_cut_off(
    options: dict[str, int], kind: str, pair: Pair, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Before they cost any TLS state; whoever has shaken hands, or has said nothing, does not count."""
    app = App(open_timeout=1000, **options)  # type: ignore[arg-type]
    made: list[ssl.SSLObject] = []

    class Counting(ssl.SSLContext):
        def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
            made.append(super().wrap_bio(*args, **options))
            return made[-1]

    context = Counting(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certfile, pair.keyfile)
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening(ssl=context, direct=direct) as server:
            async with tcp(server, tls=pair.client()), tcp(server, tls=pair.client()), tcp(server) as silent:
                async with begun(server), begun(server):
                    for _ in range(3):
                        async with tcp(server) as client:
                            await client.send(b"\x16")
                            assert await client.eof() == b""
                    assert len(made) == 4
                    await silent.send(request("/"))
                    assert (await silent.answer()).status == 400
                async with asyncio.timeout(GUARD):
                    while server.site._handshakes:
                        await asyncio.sleep(0)
                async with tcp(server, tls=pair.client()) as client:
                    await client.send(request("/"))
                    assert (await client.answer()).status == 404
    assert app.refused[kind] == 3
    assert any(f"too many TLS handshakes are in progress ({kind})" in line for line in lines(caplog))


@asynccontextmanager
async def begun(server: Listener) -> AsyncIterator[None]:
    """A client that has begun to shake hands, as the server knows already."""
    count = len(server.site._handshakes)
    async with tcp(server) as client, asyncio.timeout(GUARD):
        await client.send(b"\x16\x03\x01\x02\x00\x01")
        while len(server.site._handshakes) == count:
            await asyncio.sleep(0)
        yield


@SNIFFS
@on_each_loop
async def test_handshakes_by_way_of_a_trusted_proxy_are_no_addresss(pair: Pair, direct: bool) -> None:
    app = App(max_tls_handshakes_per_ip=1, trusted_proxies=["127.0.0.1"], open_timeout=1000)
    async with app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct) as server:
        async with begun(server), begun(server), tcp(server, tls=pair.client()) as client:
            await client.send(request("/"))
            assert (await client.answer()).status == 404
    assert "max_tls_handshakes_per_ip" not in app.refused


# ---- The end ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_close_frame_arrives_behind_everything_that_was_sent(pair: Pair, direct: bool) -> None:
    ws = WebSocketServer(max_backlog=1 << 26)

    @ws.on_message
    def received(conn: WebSocketConnection, message: str) -> None:
        conn.send_binary(bytes(1 << 23))
        conn.close(4001, "done")

    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        await client.send(frame(TEXT, "go"))
        data, close = await client.until_close()
        assert len(data.payload) == 1 << 23
        assert (close.code, close.reason) == (4001, "done")
        await client.send(close_frame(4001))
        assert await client.eof() == b""


@on_each_loop
async def test_a_client_that_goes_on_sending_gets_the_close_frame(pair: Pair, direct: bool) -> None:
    ws = WebSocketServer(max_message_size=1000)
    ws.on_message(lambda conn, message: None)
    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        await client.send(frame(TEXT, "x" * 1001), *[frame(BINARY, bytes(60_000))] * 20)
        assert [each.code for each in await client.until_close() if each.opcode == CLOSE] == [1009]


@pytest.mark.parametrize("ending", ["close", "reset"])
@on_each_loop
async def test_the_end_without_a_close_frame_is_1006(
    ending: str, pair: Pair, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ws, events = echo(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with served(pair, direct) as server:
        async with upgraded(server, ws.path, tls=pair.client()) as client:
            if ending == "reset":
                client.reset()
        assert await events.reach(1) == [1006]
    assert caplog.records == []


@on_each_loop
async def test_a_peer_that_never_answers_is_cut_off(pair: Pair, direct: bool) -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_connect(lambda conn: conn.close())
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        assert (await client.frame()).code == 1000
        assert await client.eof() == b""
        assert await events.reach(1) == [1006]


@on_each_loop
async def test_a_peer_that_reads_nothing_is_cut_off(pair: Pair, direct: bool) -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with asyncio.timeout(GUARD), served(pair, direct, shutdown_timeout=1000) as server:
        async with upgraded(server, tls=pair.client()) as client:
            client.stop_reading()
            await client.send(close_frame(1000))
            assert await events.reach(1) == [1000]
            await server.stop()
            client.writer.transport.abort()


@on_each_loop
async def test_what_a_slow_reader_does_not_take_is_bounded(pair: Pair, direct: bool) -> None:
    ws, opened, closed = WebSocketServer(max_backlog=1 << 20), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with served(pair, direct) as server, tcp(server, receive_buffer=4096, tls=pair.client()) as client:
        await client.upgrade()
        client.stop_reading()
        (conn,) = await opened.reach(1)
        sent = 0
        while conn.send_binary(bytes(1 << 16)):
            assert conn.buffered <= (1 << 20) + (1 << 17)
            sent += 1
            await asyncio.sleep(0)
            assert sent < 1000, "nothing holds the sender back"
        assert await closed.reach(1) == [1013]
        client.writer.transport.abort()


@on_each_loop
async def test_a_full_queue_stops_the_reading(pair: Pair, direct: bool) -> None:
    ws, begun, release, events = WebSocketServer(max_queue=2), asyncio.Event(), asyncio.Event(), Events()

    @ws.on_message
    async def received(conn: WebSocketConnection, message: str) -> None:
        begun.set()
        await release.wait()
        events.add(message)

    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        await client.send(*[frame(TEXT, str(number)) for number in range(50)])
        await until(begun)
        assert events.seen == []
        release.set()
        assert await events.reach(50) == [str(number) for number in range(50)]


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
