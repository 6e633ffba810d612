"""crest.listening.tls: what does not speak TLS, and handshakes that fail, take long, or are too many."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, TEXT, frame, request, tcp, upgraded
from support.events import on_each_loop
from support.tls import SNIFFS, echo, lines, served

from crest import App
from crest.listening.listener import Listener
from crest.opening.site import Site

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
