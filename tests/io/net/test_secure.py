"""io/net/secure: a SecureTransport is a StreamTransport for those who speak TLS, and hard to upset for all others.

What both have in common is tested in test_stream.py, test_stream_endings.py and test_stream_many.py. Here: records cut
in every way, handshakes that come to nothing, what is no TLS, and the end of each half.
"""

import asyncio
import random
import socket
import ssl
from collections.abc import Callable

import pytest
from conftest import LoopFactory
from support.certificates import Pair
from support.endings import close, is_open
from support.ends import MUCH, End, Ends, SecurePeer, Shaking, Whose, ends, settled
from support.events import on_each_loop
from support.keyupdates import SIZE, key_updates

from crest.io.loop.poller import Poller
from crest.io.net.secure import SecureTransport

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def context(pair: Pair) -> ssl.SSLContext:
    """The server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certfile, pair.keyfile)
    return context


def peer_of(end: End) -> SecurePeer:
    assert isinstance(end.peer, SecurePeer)
    return end.peer


def begun(made: Ends, peer: Callable[[socket.socket], SecurePeer] = SecurePeer) -> tuple[End, "asyncio.Future[None]"]:
    """A connection whose handshake has begun on the server's side, and its future."""
    end = End(made.turn, {}, peer)
    assert made.poller is not None and made.context is not None
    end.transport = SecureTransport(made.poller, end.protocol, end.accepted.detach())
    made.made.append(end)
    shaking = Shaking()
    end.transport.shake_hands(made.context, made.room, shaking)
    return end, shaking.ended


# ---- What TLS answers by itself --------------------------------------------------------------------------------------

UPDATES = 20_000
"""Whose answers are more than the kernel takes and twice what may wait."""

MOST_ANSWERS = 1 << 16


async def stall(end: End) -> int:
    """Have the peer demand answers and read none, until the server reads no more; returns how many bytes wait."""
    peer = peer_of(end)
    key_updates(peer.tls, UPDATES)
    left = -1
    while left != len(peer.unsent):
        left = len(peer.unsent)
        peer.flush()
        await settled()
    return int(end.transport.get_write_buffer_size())


@on_each_loop
async def test_nothing_is_read_while_much_waits_that_tls_has_answered(context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        peer = peer_of(end)
        waiting = await stall(end)
        assert len(peer.unsent) > UPDATES * SIZE // 4, "the server reads no more"
        assert MOST_ANSWERS < waiting < 2 * MOST_ANSWERS
        assert waiting <= made.turn.budget.used < waiting + 1000, "it counts"
        async with asyncio.timeout(20):
            while not peer.flush() or peer.receive():
                with pytest.raises(BlockingIOError):
                    peer.recv(1)
                await asyncio.sleep(0)
        await end.send(b"and so on")
        await settled()
        assert (end.data, end.overhead_size) == (b"and so on", UPDATES * SIZE)
        assert end.transport.get_write_buffer_size() == made.turn.budget.used == 0


@on_each_loop
async def test_what_waits_by_its_own_will_is_read_beside(context: ssl.SSLContext) -> None:
    """A client may write and not read: what the application sends is bounded elsewhere."""
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        key_updates(peer_of(end).tls, 10)
        await end.send(b"more")
        await settled()
        assert (end.data, end.overhead_size) == (b"more", 10 * SIZE)
        assert 0 < made.turn.budget.used < 1000
        assert len(end.read()) < MUCH
        while end.transport.get_write_buffer_size():
            end.read()
            await settled()
        assert made.turn.budget.used == 0


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
@on_each_loop
async def test_a_connection_may_end_then(how: str, context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        await stall(end)
        if how == "peer":
            end.peer.close()
        else:
            getattr(end.transport, how)()
        if how == "close":
            end.peer.close()
        await end.until("lost")
        assert made.turn.budget.used == 0


# ---- Records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("most", [1, 7, 3000])
@on_each_loop
async def test_records_arrive_in_pieces(most: int, version: ssl.TLSVersion, context: ssl.SSLContext) -> None:
    """Those of the handshake, too."""
    chance = random.Random(most)
    async with ends(Whose(context=context)) as made:
        end, shaking = begun(made, lambda sock: SecurePeer(sock, version, piece=lambda: chance.randint(1, most)))
        peer = peer_of(end)
        while not peer.shake_hands():
            await asyncio.sleep(0)
        sent = b""
        for size in (0, 1, 100, 20_000):
            data = chance.randbytes(size)
            sent += data
            peer.tls.write(data)
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        while not peer.flush():
            await asyncio.sleep(0)
        await end.until("lost")
        await shaking
        assert end.data == sent
        assert end.story == "made data eof lost"


@on_each_loop
async def test_many_records_in_one_read_are_one_piece_of_data(context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        peer, sent = peer_of(end), [b"%d," % i for i in range(1000)]
        for data in sent:
            peer.tls.write(data)
        assert peer.flush()
        await settled()
        assert end.data == b"".join(sent)
        assert end.calls == ["made", "data"]


@on_each_loop
async def test_what_comes_with_the_end_of_the_handshake_is_read(context: ssl.SSLContext) -> None:
    """A client of TLS 1.3 has the last word of the handshake, and its request right behind it."""
    async with ends(Whose(context=context)) as made:
        end, shaking = begun(made)
        peer = peer_of(end)
        peer.shake_hands()
        await settled()
        peer.receive()
        peer.tls.do_handshake()
        peer.tls.write(b"request")
        peer.flush()
        await shaking
        await settled()
        assert (end.story, end.data) == ("made data", b"request")


@pytest.mark.parametrize("version", VERSIONS)
@on_each_loop
async def test_tickets_leave_with_the_first_answer(version: ssl.TLSVersion, context: ssl.SSLContext) -> None:
    """Those of TLS 1.2 are part of the handshake."""
    context.maximum_version = version
    async with ends(Whose(context=context)) as made:
        end, shaking = begun(made)
        peer = peer_of(end)
        while not peer.shake_hands():
            await asyncio.sleep(0)
        await shaking
        assert not peer.receive()
        end.transport.write(b"answer")
        assert peer.recv(100) == b"answer"
        assert peer.tls.session is not None and peer.tls.session.has_ticket


@on_each_loop
async def test_large_writes_are_cut_into_records_and_wait_encrypted(context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        data = random.Random(1).randbytes(2 * MUCH)
        end.transport.set_write_buffer_limits(0)
        end.transport.write(data)
        assert end.calls == ["made", "pause"], "before write returns"
        assert MUCH < end.transport.get_write_buffer_size() < 2 * MUCH + 1000 * 22
        got = b""
        while "resume" not in end.calls:
            got += end.read(50_000)
            await settled()
        got += end.read()
        assert got == data and end.transport.get_write_buffer_size() == 0


@on_each_loop
async def test_what_is_known_of_the_session(context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        assert end.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert end.transport.get_extra_info("sslcontext") is context
        assert end.transport.get_extra_info("cipher", 5) == 5
        end.transport.abort()
        await end.until("lost")
        assert end.transport.get_extra_info("ssl_object") is None


# ---- Handshakes that come to nothing ---------------------------------------------------------------------------------


async def failed(shaking: "asyncio.Future[None]", end: End) -> OSError:
    """Why the handshake has failed; nobody was told of a connection."""
    with pytest.raises(OSError) as error:
        await shaking
    await settled()
    assert end.calls == [] and not is_open(end.fd)
    return error.value


@on_each_loop
async def test_a_client_that_speaks_no_version_of_the_server_s(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    async with ends(Whose(context=context)) as made:
        end, shaking = begun(made, lambda sock: SecurePeer(sock, ssl.TLSVersion.TLSv1_2))
        peer_of(end).shake_hands()
        error = await failed(shaking, end)
        assert isinstance(error, ssl.SSLError) and error.reason == "UNSUPPORTED_PROTOCOL"
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            peer_of(end).shake_hands()


@pytest.mark.parametrize(
    "data", [b"\x16garbage that is no record", b"\x16\x03\x01\xff\xff", b"\x15\x03\x01\x00\x02\x02\x28"]
)
@on_each_loop
async def test_a_client_that_only_seems_to_speak_tls(data: bytes, context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end, shaking = begun(made)
        peer_of(end).sock.send(data)
        assert isinstance(await failed(shaking, end), ssl.SSLError)


@pytest.mark.parametrize("after", [0, 1, 6, 100])
@on_each_loop
async def test_a_client_that_goes_away(after: int, context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end, shaking = begun(made, lambda sock: SecurePeer(sock, piece=lambda: 1))
        peer = peer_of(end)
        for _ in range(after):
            peer.shake_hands()
        peer.close()
        assert isinstance(await failed(shaking, end), ConnectionResetError)


@on_each_loop
async def test_handshakes_that_are_cut_off(context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        one, shaking_one = begun(made)
        two, shaking_two = begun(made)
        one.transport.abort()
        await failed(shaking_one, one)
        assert made.poller is not None
        made.poller.close()
        await failed(shaking_two, two)


def test_a_loop_that_is_closed_ends_handshakes(loop_factory: LoopFactory, context: ssl.SSLContext) -> None:
    async def start() -> End:
        end, _ = begun(Ends(Whose(context=context)))
        peer_of(end).shake_hands()
        await settled()
        return end

    loop = loop_factory()
    end = loop.run_until_complete(start())
    with pytest.warns(ResourceWarning, match="closed with sockets of crest's in use"):
        loop.close()
    del loop
    assert not is_open(end.fd) and end.calls == []
    end.transport.close()
    end.transport.abort()
    end.peer.close()


# ---- What is no TLS any more -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\xff\xff", b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x03\x00\x00"],
)
@on_each_loop
async def test_what_is_no_record_of_the_peer_s_ends_the_connection(data: bytes, context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        errors = made.catch_errors()
        end = await made.connect()
        peer = peer_of(end)
        peer.tls.write(b"before")
        peer.unsent = peer.outgoing.read() + data
        peer.flush()
        await end.until("lost")
        assert (end.story, end.data) == ("made data lost", b"before")
        assert errors == [], "that is nothing of the program's"
        with pytest.raises(ssl.SSLError, match="ALERT"):
            peer.recv(1)


@on_each_loop
async def test_a_stream_that_ends_within_a_record(context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        peer = peer_of(end)
        peer.tls.write(b"whole")
        peer.unsent = peer.outgoing.read()
        peer.tls.write(b"cut off")
        peer.unsent += peer.outgoing.read()[:-1]
        peer.flush()
        peer.sock.shutdown(socket.SHUT_WR)
        await end.until("lost")
        assert (end.story, end.data) == ("made data eof lost", b"whole")


# ---- The end of each half --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@on_each_loop
async def test_close_notify_is_said_and_understood(version: ssl.TLSVersion, context: ssl.SSLContext) -> None:
    """Without the end of the TCP stream, which is for those below."""
    context.maximum_version = version
    async with ends(Whose(context=context)) as made:
        end = await made.connect(eof=lambda end: True)
        peer = peer_of(end)
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        peer.flush()
        await end.until("eof")
        end.transport.write(b"still")
        assert peer.recv(100) == b"still"
        end.transport.write_eof()
        assert peer.recv(100) == b"" and not peer.at_end, "close_notify"
        assert peer.sock.recv(1) == b"", "and then the end of the stream"
        end.transport.close()
        await end.until("lost")


@pytest.mark.parametrize("ending", ["close", "write_eof", "abort"])
@on_each_loop
async def test_what_waits_goes_before_close_notify(ending: str, context: ssl.SSLContext) -> None:
    async with ends(Whose(context=context)) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        getattr(end.transport, ending)()
        got = await end.read_to_end()
        if ending == "abort":
            assert len(got) < MUCH and peer_of(end).at_end, "cut off, and so it can be seen"
        else:
            assert len(got) == MUCH and not peer_of(end).at_end
        close(end)
        await end.until("lost")
