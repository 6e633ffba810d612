"""crest.io.life.reading: who watches a transport of the loop's that is paused, and until when.

What the end of a connection means that is not read is in test_unread_ends.py.
"""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from conftest import LoopFactory
from support.endings import is_open
from support.ends import LOOP, End, Ends, ends, settled
from support.events import on_each_loop

from crest.io.loop.poller import Poller

pytestmark = pytest.mark.skipif(not Poller.exists, reason="nothing watches there")


@asynccontextmanager
async def watched() -> AsyncIterator[Ends]:
    """Connections of the loop's transports, and a poller."""
    async with ends(LOOP) as made:
        made.turn.poller = Poller(asyncio.get_running_loop())
        yield made
        made.turn.poller.close()


@on_each_loop
async def test_the_end_of_a_half_is_told_once() -> None:
    async with watched() as made:
        end = await made.connect()
        end.protocol.pause_reading()
        end.protocol.pause_reading()
        end.peer.send(b"x")
        await settled()
        assert end.calls == ["made"]
        end.peer.shutdown(socket.SHUT_WR)
        await settled()
        assert end.calls == ["made", "left"]
        end.protocol.resume_reading()
        await end.until("lost")
        assert (end.story, end.data) == ("made left data eof lost", b"x")


@on_each_loop
async def test_it_may_be_read_at_once() -> None:
    async with watched() as made:
        end = await made.connect(left=lambda end: True)
        end.protocol.pause_reading()
        end.peer.send(b"x")
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("lost")
        assert (end.story, end.data) == ("made left data eof lost", b"x")


@on_each_loop
async def test_one_that_is_gone_is_lost() -> None:
    async with watched() as made:
        end = await made.connect()
        end.protocol.pause_reading()
        end.reset()
        await end.until("lost")
        assert end.story == "made lost"


@on_each_loop
async def test_reading_again_ends_it() -> None:
    async with watched() as made:
        end = await made.connect()
        for _ in range(3):
            end.protocol.pause_reading()
            end.protocol.resume_reading()
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("lost")
        assert end.story == "made eof lost"
        end.protocol.resume_reading()
        assert end.story == "made eof lost"


@on_each_loop
async def test_the_end_by_another_hand_ends_it() -> None:
    """The descriptor is another's then."""
    async with watched() as made:
        for _ in range(10):
            end = await made.connect()
            end.protocol.pause_reading()
            end.transport.abort()
            end.peer.close()
            await end.until("lost")
            await settled()
            assert end.story == "made lost"


@on_each_loop
async def test_a_poller_that_ends_watches_no_more() -> None:
    async with watched() as made:
        end = await made.connect()
        end.protocol.pause_reading()
        assert made.turn.poller is not None
        made.turn.poller.close()
        assert is_open(end.fd)
        end.protocol.pause_reading()
        end.peer.send(b"x")
        end.peer.shutdown(socket.SHUT_WR)
        await settled()
        assert end.calls == ["made"]
        end.protocol.resume_reading()
        await end.until("lost")
        assert end.story == "made data eof lost"


def test_a_loop_that_is_closed_keeps_its_descriptor(loop_factory: LoopFactory) -> None:
    """It is not crest's to close, nor to watch any more."""

    async def start() -> End:
        made = Ends(LOOP)
        made.turn.poller = Poller(asyncio.get_running_loop())
        end = await made.connect()
        end.protocol.pause_reading()
        return end

    loop = loop_factory()
    end = loop.run_until_complete(start())
    kept = end.server()
    with pytest.warns(ResourceWarning):
        loop.close()
        gc.collect()
    assert end.calls == ["made"]
    kept.send(b"x")
    assert end.peer.recv(1) == b"x"
    for each in (kept, end.peer):
        each.close()
