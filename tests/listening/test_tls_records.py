"""crest.listening.tls: what TLS answers by itself counts, and is bounded."""

import asyncio
import logging
import re
import shutil
import socket
import ssl
from asyncio.subprocess import PIPE, STDOUT

import pytest
from support.certificates import Pair
from support.client import CLOSE, GUARD, PING, frame, request, tcp, upgraded
from support.events import Events, on_each_loop
from support.keyupdates import SIZE, key_updates
from support.tls import OURS, lines

from crest import App, WebSocketServer

OP_ALLOW_CLIENT_RENEGOTIATION = 1 << 8
"""Of OpenSSL 3, which does not allow it otherwise; Python's ssl has no name for it."""


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
