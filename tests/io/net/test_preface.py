"""crest.io.net.preface: what comes before a protocol, in pieces, too late or never, and whose the descriptor is then.

Here the arrivals are made up. What crest's own decide is in tests/listening and tests/opening.
"""

import asyncio
import gc
import os
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from conftest import LoopFactory
from support.certificates import Pair
from support.client import GUARD
from support.door import Door, door
from support.ends import SecurePeer, settled
from support.events import on_each_loop, until

from crest.io.loop.poller import Poller
from crest.io.net.preface import Grace, Lobby, Preface

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V2 = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c c0000207 c6336401 dc04 01bb")
ALICE = ("192.0.2.7", 56324)


class Arrival:
    """One connection, and what it was told."""

    def __init__(self, reception: "Reception") -> None:
        self.reception = reception
        self.told: list[Any] = []
        self.ended = 0

    def tell(self, *what: Any) -> None:
        self.told.append(what[0] if len(what) == 1 else what)
        self.reception.meanwhile(self, what[0])

    @property
    def expects_header(self) -> bool:
        self.reception.meanwhile(self, "expects_header")
        return self.reception.header

    def named(self, header: Any) -> bool:
        self.tell("named", header.source)
        return self.reception.welcome

    def refuse_header(self, reason: str) -> None:
        self.tell("refused", reason)

    def context(self) -> ssl.SSLContext | None:
        self.tell("context")
        return self.reception.context

    def speaks_plainly(self) -> None:
        self.tell("plain")

    def shaken(self) -> None:
        self.tell("shaken")

    def failed(self, error: BaseException) -> None:
        self.tell("failed", type(error))

    def late(self) -> None:
        self.tell("late")

    def site(self) -> Any:
        self.reception.meanwhile(self, "site")
        return self.reception.door

    def end(self) -> None:
        self.ended += 1
        self.reception.meanwhile(self, "end")


class Reception:
    """Made-up decisions.

    Attributes:
        meanwhile: Is called within each call of an arrival, with its name.
    """

    def __init__(self, header: bool = False, context: ssl.SSLContext | None = None, tls: bool = False) -> None:
        self.header = header
        self.context = context
        self.tls = tls or context is not None
        self.open_timeout = 1000.0
        self.welcome = True
        self.arrivals: list[Arrival] = []
        self.door: Door | None = None
        self.meanwhile: Callable[[Arrival, str], None] = lambda arrival, name: None

    def receive(self, client: Any) -> Arrival | None:
        self.arrivals.append(Arrival(self))
        self.meanwhile(self.arrivals[-1], "receive")
        return self.arrivals[-1] if self.welcome or self.header or self.tls else None


def entered(reception: Reception) -> Any:
    """A door with this reception."""
    return _Entered(reception)


class _Entered:
    def __init__(self, reception: Reception) -> None:
        self.reception, self.context = reception, door(reception=reception)

    async def __aenter__(self) -> Door:
        self.reception.door = await self.context.__aenter__()
        return self.reception.door

    async def __aexit__(self, *error: Any) -> None:
        await self.context.__aexit__(*error)


@pytest.fixture
def context(pair: Pair) -> ssl.SSLContext:
    """The server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certfile, pair.keyfile)
    return context


async def ends(peer: socket.socket) -> bytes:
    """What comes until the end of the stream."""
    got = b""
    async with asyncio.timeout(GUARD):
        while True:
            try:
                data = await asyncio.get_running_loop().sock_recv(peer, 1 << 16)
            except ConnectionError:
                return got
            if not data:
                return got
            got += data


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def prefaces() -> int:
    gc.collect()
    return sum(type(each) in (Preface, Grace) for each in gc.get_objects())


# ---- What comes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [1, 7, 1000])
@on_each_loop
async def test_exactly_the_header_is_taken(header: bytes, size: int) -> None:
    reception = Reception(header=True)
    async with entered(reception) as made:
        peer = made.knock()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = header + b"behind it"
        for at in range(0, len(data), size):
            peer.send(data[at : at + size])
            await settled()
        assert reception.arrivals[0].told == [("named", ALICE)]
        (visitor,) = made.visitors
        assert visitor.data == b"behind it" and visitor.peername == peer.getsockname()
        assert made.loop.is_quiet()


@on_each_loop
async def test_what_is_there_already_is_read_as_it_is_accepted() -> None:
    """So that nothing waits for a turn, and the poller has nothing to do."""
    reception = Reception(header=True)
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(V2 + b"x")
        await made.came.reach(1)
        await settled()
        assert made.visitors[0].data == b"x"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", []),
        (V1[:9], [("refused", "it is not complete")]),
        (b"GET / HTTP/1.1\r\n", [("refused", "neither version 1 nor version 2")]),
    ],
)
@pytest.mark.parametrize("how", ["end", "reset"])
@on_each_loop
async def test_what_is_no_header(sent: bytes, told: list[Any], how: str) -> None:
    reception = Reception(header=True)
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(sent)
        await settled()
        if how == "end":
            with suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
            assert await ends(peer) == b""
        else:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        await settled()
        assert (reception.arrivals[0].told, reception.arrivals[0].ended) == (told, 1)
        assert made.visitors == [] and made.loop.is_quiet()


@on_each_loop
async def test_whom_the_header_names_may_be_refused() -> None:
    reception = Reception(header=True)
    reception.welcome = False
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(V1)
        assert await ends(peer) == b""
        assert reception.arrivals[0].told == [("named", ALICE)] and reception.arrivals[0].ended == 1


@on_each_loop
async def test_a_connection_may_be_refused_as_it_comes() -> None:
    reception = Reception()
    reception.welcome = False
    async with entered(reception) as made:
        assert await ends(made.knock()) == b""
        reception.welcome = True
        made.knock().send(b"x")
        await made.came.reach(1)


@pytest.mark.parametrize("header", [False, True])
@on_each_loop
async def test_the_first_byte_is_only_looked_at(header: bool, context: ssl.SSLContext) -> None:
    reception = Reception(header=header, context=context)
    async with entered(reception) as made:
        peer = made.knock()
        await settled()
        if header:
            peer.send(V2)
            await settled()
        peer.send(b"G")
        await made.came.reach(1)
        await settled()
        assert made.visitors[0].data == b"G"
        assert reception.arrivals[0].told == [("named", ALICE)] * header + ["plain"]
        assert prefaces() == 0


@pytest.mark.parametrize("header", [False, True])
@on_each_loop
async def test_tls_behind_it(header: bool, context: ssl.SSLContext) -> None:
    reception = Reception(header=header, context=context)
    async with entered(reception) as made:
        sock = made.knock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if header:
            sock.send(V1)
        peer = SecurePeer(sock)
        async with asyncio.timeout(GUARD):
            while not peer.shake_hands():
                await asyncio.sleep(0)
        peer.send(b"hello")
        await made.came.reach(1)
        await settled()
        (visitor,) = made.visitors
        assert visitor.data == b"hello" and visitor.peername == sock.getsockname()
        assert reception.arrivals[0].told == [("named", ALICE)] * header + ["context", "shaken"]
        assert reception.arrivals[0].ended == 0 and prefaces() == 0


@on_each_loop
async def test_handshakes_may_be_refused() -> None:
    reception = Reception(tls=True)
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(b"\x16")
        assert await ends(peer) == b""
        assert reception.arrivals[0].told == ["context"] and reception.arrivals[0].ended == 1


@on_each_loop
async def test_handshakes_that_fail(context: ssl.SSLContext) -> None:
    reception = Reception(context=context)
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(b"\x16garbage")
        await ends(peer)
        await settled()
        context_call, failure = reception.arrivals[0].told
        assert context_call == "context" and failure[0] == "failed" and issubclass(failure[1], ssl.SSLError)
        assert reception.arrivals[0].ended >= 1 and prefaces() == 0


# ---- What does not come ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "sent", "told"),
    [
        (True, b"", [("refused", "none within 0.05 s")]),
        (True, V1[:5], [("refused", "none within 0.05 s")]),
        (True, V1, [("named", ALICE), "late"]),
        (False, b"", ["late"]),
        (False, b"\x16\x03\x01", ["context", "late"]),
    ],
)
@on_each_loop
async def test_all_of_it_has_one_deadline(header: bool, sent: bytes, told: list[Any], context: ssl.SSLContext) -> None:
    reception = Reception(header=header, context=context)
    reception.open_timeout = 0.05
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(sent)
        assert await ends(peer) == b""
        await settled()
        assert reception.arrivals[0].told == told
        assert reception.arrivals[0].ended >= 1 and prefaces() == 0 and made.visitors == []


@on_each_loop
async def test_a_deadline_that_was_kept_never_comes() -> None:
    reception = Reception(header=True)
    reception.open_timeout = 0.05
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(V1 + b"x")
        await made.came.reach(1)
        await asyncio.sleep(0.2)
        assert reception.arrivals[0].told == [("named", ALICE)] and not made.visitors[0].lost.is_set()


# ---- The end ---------------------------------------------------------------------------------------------------------

STAGES = [b"", V1[:7], V1, V1 + b"\x16\x03\x01"]


@pytest.mark.parametrize("ending", ["acceptor", "poller"])
@pytest.mark.parametrize("sent", STAGES)
@on_each_loop
async def test_those_that_wait_are_cut_off_in_silence(sent: bytes, ending: str, context: ssl.SSLContext) -> None:
    reception = Reception(header=True, context=context)
    async with entered(reception) as made:
        peer = made.knock()
        peer.send(sent)
        await settled()
        if ending == "acceptor":
            made.acceptor.close()
        else:
            made.poller.close()
        assert await ends(peer) == b""
        await settled()
        (arrival,) = reception.arrivals
        assert not [told for told in arrival.told if told == "late" or told[0] == "refused"]
        assert arrival.ended >= 1 and made.visitors == [] and prefaces() == 0


def test_a_loop_that_is_closed_closes_them(loop_factory: LoopFactory) -> None:
    reception = Reception(header=True)

    async def come() -> tuple[Door, socket.socket]:
        reception.door = made = Door(asyncio.get_running_loop(), reception=reception)
        peer = made.knock()
        await settled()
        return made, peer

    loop = loop_factory()
    made, peer = loop.run_until_complete(come())
    with pytest.warns(ResourceWarning, match="closed with sockets of crest's in use"):
        loop.close()
        del loop
        made.loop = None  # type: ignore[assignment]
        gc.collect()
    peer.setblocking(True)
    assert peer.recv(1) == b"" and reception.arrivals[0].ended == 1
    made.socket.close()
    peer.close()


CALLS = ["receive", "expects_header", "named", "context", "plain", "site", "refused", "late", "shaken", "failed", "end"]
WAYS = {
    "plain": V1 + b"x",
    "tls": V1 + b"\x16\x03\x01\x02\x00\x01",
    "garbage": V1 + b"\x16garbage",
    "malformed": b"GET",
    "silent": b"",
}


@pytest.mark.parametrize("does", ["close", "raise"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("call", CALLS)
@on_each_loop
async def test_in_the_middle_of_anything(call: str, way: str, does: str, context: ssl.SSLContext) -> None:
    """Whatever a call of the arrival does or raises: nothing is left, and the next one is served."""
    reception = Reception(header=True, context=context)
    reception.open_timeout = 0.05
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
    done: list[str] = []

    def meanwhile(arrival: Arrival, name: str) -> None:
        if name == call and not done:
            done.append(name)
            if does == "raise":
                raise MemoryError(name)
            made.acceptor.close()

    async with entered(reception) as made:
        before = open_descriptors()
        peer = made.knock()
        peer.send(WAYS[way])
        reception.meanwhile = meanwhile
        await settled()
        if way != "plain" or made.visitors == []:
            await ends(peer)
        else:
            for visitor in made.visitors:
                visitor.transport.abort()
                await until(visitor.lost)
        peer.close()
        async with asyncio.timeout(GUARD):
            while open_descriptors() > before or prefaces():
                await asyncio.sleep(0.01)
        (arrival,) = reception.arrivals
        assert arrival.ended or made.visitors or call == "receive"
        if does == "raise":
            done.append("enough")
            count = len(made.visitors)
            made.knock().send(V1 + b"y")
            await made.came.reach(count + 1)


def test_what_it_is_made_of() -> None:
    for kind in (Lobby, Preface, Grace):
        assert not hasattr(kind, "__dict__") or "__dict__" not in dir(kind)
    with pytest.raises(TypeError):
        Lobby(None, None, None, None)  # type: ignore[arg-type]
