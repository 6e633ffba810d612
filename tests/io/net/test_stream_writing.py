"""crest.io.net.stream: what is written, paused, and shut down, as asyncio's and uvloop's transports do it."""

import random
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from support.endings import abort, close
from support.ends import MUCH, End, Whose, ends, settled, skip_tls, skip_uvloop
from support.events import on_each_loop
from support.link import RESPONSE, Connection

from crest.io.loop.poller import Poller
from crest.io.out.hub import Hub

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")


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
