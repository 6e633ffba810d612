"""crest.io.net.stream: a StreamTransport does what asyncio's and uvloop's transports do, callback by callback.

Where all three agree, a test runs with each of them (`whose`); what goes beyond that is tested of crest's own alone.
How connections end is in test_stream_endings.py, and many at a time in test_stream_many.py.
"""

import asyncio
import random
import socket
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from support.ends import MUCH, End, Recorded, Whose, abort, close, ends, is_open, settled, skip_tls, skip_uvloop
from support.events import on_each_loop
from support.link import RESPONSE, Connection

from crest.io.loop.poller import Poller
from crest.io.net.stream import StreamTransport
from crest.io.out.hub import Hub

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


# ---- Writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@on_each_loop
async def test_what_may_be_written(whose: Whose, kind: Callable[[bytes], Any]) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.write(kind(b"abc"))
        end.transport.write(kind(b""))
        end.transport.write(kind(b"d"))
        await settled()
        assert end.read() == b"abcd"
        with pytest.raises(TypeError):
            end.transport.write("text")


@on_each_loop
async def test_what_may_not_be_written(ours: Whose) -> None:
    async with ends(ours) as made:
        end = await made.connect()
        for wrong in ("text", None, 5, [b"x"]):
            with pytest.raises(TypeError):
                end.transport.write(wrong)
        with pytest.raises(BufferError):
            end.transport.write(memoryview(b"abcd")[::2])
        end.transport.write(memoryview(array("I", [1, 2])))
        assert end.read() == array("I", [1, 2]).tobytes()


@on_each_loop
async def test_a_buffer_may_be_changed_once_it_was_written(ours: Whose) -> None:
    skip_tls(ours, "nothing is sent beside the transport")
    async with ends(ours) as made:
        end = await made.connect()
        size, data = end.fill(), bytearray(b"before")
        end.transport.write(data)
        end.transport.write(data)
        data[:] = b"behind"
        end.read()
        await settled()
        assert end.read() == b"beforebefore"
        assert size > 0


@on_each_loop
async def test_much_is_written_in_order(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        sent = [random.Random(i).randbytes(i * 1000) for i in range(100)]
        for data in sent:
            end.transport.write(data)
        assert end.transport.get_write_buffer_size() > MUCH
        end.transport.close()
        assert await end.read_to_end() == b"".join(sent)
        await end.until("lost")
        assert end.story in ("made pause resume lost", "made pause lost")  # uvloop does not resume who is closing


@on_each_loop
async def test_a_full_kernel_pauses_and_resumes_the_protocol(whose: Whose) -> None:
    """Above 64 KiB that wait, and again at a quarter of them."""
    skip_uvloop(whose, "resume at 16 bytes")
    skip_tls(whose, "more waits than was written")
    async with ends(whose) as made:
        end = await made.connect()
        end.fill()
        assert end.transport.get_write_buffer_limits() == (1 << 14, 1 << 16)
        end.transport.write(bytes(1 << 16))
        await settled()
        assert end.calls == ["made"]
        end.transport.write(b"x")
        await settled()
        assert end.calls == ["made", "pause"]
        assert end.transport.get_write_buffer_size() == (1 << 16) + 1
        end.transport.write(b"x")
        await settled()
        assert end.calls == ["made", "pause"], "told once"
        while "resume" not in end.calls:
            assert end.transport.get_write_buffer_size() > 1 << 14
            end.read(1000)
            await settled()
        assert end.transport.get_write_buffer_size() <= 1 << 14
        end.read()
        await settled()
        assert end.calls == ["made", "pause", "resume"]
        assert end.transport.get_write_buffer_size() == 0


@on_each_loop
async def test_with_a_limit_of_0_every_byte_that_waits_pauses(ours: Whose) -> None:
    """That is how an Outbox learns whether the transport holds anything."""
    skip_tls(ours, "nothing is sent beside the transport")
    async with ends(ours) as made:
        end = await made.connect()
        end.transport.set_write_buffer_limits(0)
        assert end.transport.get_write_buffer_limits() == (0, 0)
        end.transport.write(b"taken at once")
        assert end.calls == ["made"]
        end.fill()
        end.transport.write(b"x")
        assert end.calls == ["made", "pause"], "before write returns"
        end.read()
        await settled()
        assert end.calls == ["made", "pause", "resume"]


@on_each_loop
async def test_limits_that_are_changed_while_something_waits(ours: Whose) -> None:
    skip_tls(ours, "nothing is sent beside the transport")
    async with ends(ours) as made:
        end = await made.connect()
        end.fill()
        end.transport.write(bytes(1000))
        assert end.calls == ["made"]
        end.transport.set_write_buffer_limits(999)
        assert end.calls == ["made", "pause"]
        end.transport.set_write_buffer_limits(3999)
        assert end.calls == ["made", "pause"]
        end.transport.set_write_buffer_limits(4000)
        assert end.calls == ["made", "pause", "resume"]
        end.transport.set_write_buffer_limits()
        assert end.transport.get_write_buffer_limits() == (1 << 14, 1 << 16)
        for wrong in (-1, 1 << 32):
            with pytest.raises(OverflowError):
                end.transport.set_write_buffer_limits(wrong)


@on_each_loop
async def test_writing_within_resume_writing(whose: Whose) -> None:
    """What is written there comes behind what waited, and may pause again at once."""

    def more(end: End) -> None:
        if end.calls.count("resume") <= 3:
            end.transport.write(b"b" * MUCH)

    async with ends(whose) as made:
        end = await made.connect(resume=more)
        end.transport.write(b"a" * MUCH)
        end.transport.write(b"A")
        got = b""
        while len(got) < 4 * MUCH + 1:
            got += end.read()
            await settled()
        assert got == b"a" * MUCH + b"A" + b"b" * 3 * MUCH
        assert end.calls == ["made"] + ["pause", "resume"] * 4


@on_each_loop
async def test_closing_within_resume_writing(ours: Whose) -> None:
    """asyncio's transports do not expect that."""
    async with ends(ours) as made:
        end = await made.connect(resume=close)
        end.transport.write(bytes(MUCH))
        assert len(await end.read_to_end()) == MUCH
        await end.until("lost")
        assert end.story == "made pause resume lost"


@pytest.mark.parametrize("at", ["pause", "resume"])
@on_each_loop
async def test_aborting_while_writing(ours: Whose, at: str) -> None:
    """asyncio's transports do not expect that either."""
    async with ends(ours) as made:
        end = await made.connect(**{at: abort})
        end.transport.write(bytes(MUCH))
        if at == "resume":
            while "resume" not in end.calls:
                end.read()
                await settled()
        await end.until("lost")
        await settled()
        assert end.calls.count("lost") == 1
        assert end.transport.get_write_buffer_size() == 0


@on_each_loop
async def test_a_writer_whose_peer_has_gone_is_told_by_the_loss(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.peer.close()
        end.transport.write(b"to nobody")
        end.transport.write(b"to nobody")
        await end.until("lost")
        assert end.story == "made lost"


@on_each_loop
async def test_the_peer_goes_while_something_waits_for_it_and_reading_is_paused(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.transport.write(bytes(MUCH))
        await settled()
        end.peer.close()  # with much unread: that is a reset
        await end.until("lost")
        assert end.story == "made pause lost"
        assert made.is_quiet()


@on_each_loop
async def test_last_words_are_read_though_writing_failed_in_the_same_moment(whose: Whose) -> None:
    """A client that is slow sends a close frame and quits: that resets the connection, and the frame still counts."""
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        await settled()
        end.peer.send(b"last words")
        end.peer.close()
        await end.until("lost")
        assert (end.story, end.data) == ("made pause data lost", b"last words")


@on_each_loop
async def test_a_websocket_does_not_overtake_the_page_before_it(whose: Whose) -> None:
    """The transport has less of the page left than when it paused its protocol, and more than when it resumes it."""
    skip_tls(whose, "nothing is sent beside the transport")
    async with ends(whose) as made:
        limits = {"max_message_size": 1, "max_fragments": 1, "max_backlog": 1 << 20, "max_queue": 1}
        hub = Hub(on_backlog="close", close_timeout=10, fanout_slice=1, **limits)
        hub.open(made.turn)
        end = await made.connect()
        filled = end.fill()
        end.transport.set_write_buffer_limits(MUCH)
        end.transport.write(b"p" * MUCH + b"!")
        await settled()
        assert end.calls == ["made", "pause"]
        got = b""
        while end.transport.get_write_buffer_size() > MUCH:
            got += end.read(1000)
            await settled()
        assert end.calls == ["made", "pause"]
        connection = Connection()
        end.protocol.upgrade(connection, hub, RESPONSE, b"")
        got += end.read(150_000)  # there is room in the kernel, for whoever is first
        connection.send("hello")
        while not got.endswith(b"hello"):
            await settled()
            got += end.read()
        assert got == bytes(filled) + b"p" * MUCH + b"!" + RESPONSE + b"\x81\x05hello"
        hub.close()


# ---- Shutting the writing half down ----------------------------------------------------------------------------------


@on_each_loop
async def test_write_eof_comes_behind_what_waits(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        assert end.transport.can_write_eof()
        end.transport.write(bytes(MUCH))
        end.transport.write_eof()
        end.transport.write_eof()
        with pytest.raises(RuntimeError):
            end.transport.write(b"x")
        assert len(await end.read_to_end()) == MUCH
        end.peer.send(b"still read")
        await settled()
        assert (end.story, end.data) == ("made pause resume data", b"still read")
        assert not end.transport.is_closing()


@on_each_loop
async def test_closing_behind_write_eof_sends_what_waits(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        end.transport.write_eof()
        end.transport.close()
        assert len(await end.read_to_end()) == MUCH
        await end.until("lost")


@on_each_loop
async def test_write_eof_of_one_that_is_closing_does_nothing(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        end.transport.close()
        end.transport.write_eof()
        assert len(await end.read_to_end()) == MUCH
        await end.until("lost")


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
