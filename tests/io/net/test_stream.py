"""crest.io.net.stream: a StreamTransport does what asyncio's and uvloop's transports do, callback by callback.

Where all three agree, a test runs with each of them (`whose`); what goes beyond that is tested of crest's own alone.
Writing is in test_stream_writing.py, how connections end in test_stream_endings.py, many at a time in
test_stream_many.py.
"""

import asyncio
import random
import socket

import pytest
from support.endings import is_open
from support.ends import MUCH, End, Recorded, Whose, ends, settled, skip_uvloop
from support.events import on_each_loop

from crest.io.loop.poller import Poller
from crest.io.net.stream import StreamTransport

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")


def keep_open(end: End) -> bool:
    return True


# ---- Reading ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_data_then_the_end_of_the_stream_then_the_loss(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.peer.send(b"one")
        await settled()
        end.peer.send(b"two")
        await settled()
        assert end.calls == ["made", "data", "data"]
        end.peer.close()
        await end.until("lost")
        assert (end.story, end.data) == ("made data eof lost", b"onetwo")


@on_each_loop
async def test_more_than_one_read_takes(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        sent = random.Random(1).randbytes(3 * MUCH)
        await end.send(sent)
        end.peer.close()
        await end.until("lost")
        assert end.data == sent


@on_each_loop
async def test_what_came_before_the_connection_was_made(whose: Whose) -> None:
    async with ends(whose) as made:
        end = End(made.turn, {})
        end.peer.send(b"early")
        end.peer.close()
        made.made.append(end)
        if made.poller is None:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: end.protocol, end.accepted)
        else:
            StreamTransport(made.poller, end.protocol, end.accepted.detach()).start()
        await end.until("lost")
        assert (end.story, end.data) == ("made data eof lost", b"early")


@on_each_loop
async def test_who_pauses_is_not_read(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.peer.send(b"later")
        await settled()
        assert end.calls == ["made"] and made.is_quiet()
        end.transport.resume_reading()
        await settled()
        assert end.data == b"later"


@on_each_loop
async def test_pausing_and_resuming_twice_is_as_once(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        for _ in range(2):
            end.transport.pause_reading()
        end.peer.send(b"x")
        await settled()
        assert end.data == b""
        for _ in range(2):
            end.transport.resume_reading()
        await settled()
        assert end.data == b"x"


@on_each_loop
async def test_pausing_within_data(whose: Whose) -> None:
    """No more than one read, even of what is there already."""
    async with ends(whose) as made:
        end = await made.connect(data=lambda end: end.transport.pause_reading())
        end.peer.send(b"a")
        await settled()
        end.peer.send(b"b")
        await settled()
        assert end.data == b"a"
        end.transport.resume_reading()
        await settled()
        assert end.data == b"ab"
        end.peer.send(b"c")
        await settled()
        assert end.data == b"ab" and made.is_quiet()


@on_each_loop
async def test_pausing_from_the_start(whose: Whose) -> None:
    skip_uvloop(whose, "begin to read after connection_made, whatever it did")
    async with ends(whose) as made:
        end = await made.connect(made=lambda end: end.transport.pause_reading())
        end.peer.send(b"x")
        end.peer.shutdown(socket.SHUT_WR)
        await settled()
        assert end.calls == ["made", "left"][: 1 + whose.own] and made.is_quiet()
        end.calls.clear()
        end.transport.resume_reading()
        await end.until("lost")
        assert (end.story, end.data) == ("data eof lost", b"x")


@pytest.mark.parametrize("told", [False, True], ids=["not to be read", "to be read"])
@on_each_loop
async def test_the_end_of_a_half_is_told_once_while_reading_is_paused(ours: Whose, told: bool) -> None:
    """It may be read then, with what came before it, or later."""
    async with ends(ours) as made:
        end = await made.connect(left=lambda end: told)
        end.transport.pause_reading()
        end.peer.send(b"last words")
        await settled()
        assert end.calls == ["made"] and made.is_quiet()
        end.peer.shutdown(socket.SHUT_WR)
        await settled()
        assert made.is_quiet()
        if not told:
            assert end.calls == ["made", "left"] and end.data == b""
            end.transport.pause_reading()
            await settled()
            assert end.calls == ["made", "left", "left"] and made.is_quiet(), "it may be of interest by now"
            end.transport.resume_reading()
        await end.until("lost")
        assert end.story == "made left data eof lost" and end.data == b"last words"


@pytest.mark.parametrize("half", [False, True], ids=["open", "half closed"])
@on_each_loop
async def test_a_connection_that_breaks_while_reading_is_paused_is_lost(ours: Whose, half: bool) -> None:
    async with ends(ours) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.peer.send(b"last words")
        if half:
            end.peer.shutdown(socket.SHUT_WR)
            await settled()
        end.reset()
        await end.until("lost")
        assert end.story == ("made left lost" if half else "made lost") and end.data == b""


@on_each_loop
async def test_a_connection_that_breaks_behind_its_end_is_lost(ours: Whose) -> None:
    """Nothing is read any more where the peer has closed its half."""
    async with ends(ours) as made:
        end = await made.connect(eof=keep_open)
        end.peer.shutdown(socket.SHUT_WR)
        await settled()
        assert end.calls == ["made", "eof"] and made.is_quiet()
        end.reset()
        await end.until("lost")
        assert end.story == "made eof lost"


# ---- The peer's half is closed ---------------------------------------------------------------------------------------


@on_each_loop
async def test_after_the_peers_half_is_closed_it_can_still_be_written_to(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect(eof=keep_open)
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("eof")
        end.transport.write(b"answer")
        await settled()
        assert end.read() == b"answer"
        assert end.calls == ["made", "eof"], "told once"
        assert not end.transport.is_closing() and made.is_quiet()
        end.transport.close()
        await end.until("lost")
        assert end.story == "made eof lost"


@on_each_loop
async def test_a_protocol_that_does_not_keep_the_connection_open_still_sends_what_it_wrote(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect(eof=lambda end: end.transport.write(b"x" * MUCH))
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("eof")
        assert end.transport.is_closing() and "lost" not in end.calls
        assert await end.read_to_end() == b"x" * MUCH
        await end.until("lost")


@on_each_loop
async def test_both_halves_are_closed_and_then_the_connection(whose: Whose) -> None:
    """First the server's half, then the peer's; nobody is told more than once, and nobody is woken."""
    async with ends(whose) as made:
        end = await made.connect(eof=keep_open)
        end.transport.write(b"goodbye")
        end.transport.write_eof()
        assert await end.read_to_end() == b"goodbye"
        end.peer.send(b"thanks")
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("eof")
        await settled()
        assert (end.story, end.data) == ("made data eof", b"thanks") and made.is_quiet()
        end.transport.close()
        await end.until("lost")
        assert end.story == "made data eof lost"


@on_each_loop
async def test_resuming_after_the_end_reads_nothing(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect(eof=lambda end: end.transport.pause_reading() or True)
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("eof")
        if whose.own:  # asyncio's would tell of the end once more
            end.transport.resume_reading()
        await settled()
        assert end.calls == ["made", "eof"] and made.is_quiet()


# ---- What a transport says of itself ---------------------------------------------------------------------------------


@on_each_loop
async def test_what_is_known_of_the_peer_of_a_socket_pair(ours: Whose) -> None:
    async with ends(ours) as made:
        end = await made.connect()
        assert end.transport.get_extra_info("peername") is None
        assert end.transport.get_extra_info("peername", 5) == 5
        assert end.transport.get_extra_info("socket", "default") == "default"


@on_each_loop
async def test_what_it_is_made_of(ours: Whose) -> None:
    async with ends(ours) as made:
        protocol = Recorded(made.turn, None)
        with socket.socket() as sock:
            for arguments in [(None, protocol, 0), (made.poller, None, 0), (made.poller, protocol, None), ()]:
                with pytest.raises(TypeError):
                    StreamTransport(*arguments)  # type: ignore[arg-type]
            assert is_open(0) and is_open(sock.fileno())
