"""crest.io.stream: a StreamTransport does what asyncio's and uvloop's transports do, callback by callback.

Where all three agree, a test runs with each of them (`own`); what goes beyond that is tested of StreamTransport alone.
"""

import asyncio
import gc
import os
import random
import socket
import subprocess
import sys
import weakref
from array import array
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from client import GUARD
from conftest import LoopFactory
from ends import End, Ends, Recorded, ends, settled
from events import on_each_loop
from link import RESPONSE, Connection

from crest.io.hub import Hub
from crest.io.poller import Poller
from crest.io.stream import StreamTransport

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")

MUCH = 1 << 20
"""Bytes that no socket pair takes at once."""


@pytest.fixture(params=[True, False], ids=["own", "loop"])
def own(request: pytest.FixtureRequest) -> bool:
    """Whether the transport is a StreamTransport, or the loop's."""
    return bool(request.param)


def skip_uvloop(own: bool, why: str) -> None:
    """Its transports differ from asyncio's here, so StreamTransport is compared with asyncio's only."""
    if not own and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip(f"uvloop's transports {why}")


def close(end: End) -> None:
    end.transport.close()


def abort(end: End) -> None:
    end.transport.abort()


def keep_open(end: End) -> bool:
    return True


# ---- Reading ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_data_then_the_end_of_the_stream_then_the_loss(own: bool) -> None:
    async with ends(own) as made:
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
async def test_more_than_one_read_takes(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        sent = random.Random(1).randbytes(3 * MUCH)
        await asyncio.get_running_loop().sock_sendall(end.peer, sent)
        end.peer.close()
        await end.until("lost")
        assert end.data == sent


@on_each_loop
async def test_what_came_before_the_connection_was_made(own: bool) -> None:
    async with ends(own) as made:
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
async def test_who_pauses_is_not_read(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.peer.send(b"later")
        await settled()
        assert end.calls == ["made"] and made.is_quiet()
        end.transport.resume_reading()
        await settled()
        assert end.data == b"later"


@on_each_loop
async def test_pausing_and_resuming_twice_is_as_once(own: bool) -> None:
    async with ends(own) as made:
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
async def test_pausing_within_data(own: bool) -> None:
    """No more than one read, even of what is there already."""
    async with ends(own) as made:
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
async def test_pausing_from_the_start(own: bool) -> None:
    skip_uvloop(own, "begin to read after connection_made, whatever it did")
    async with ends(own) as made:
        end = await made.connect(made=lambda end: end.transport.pause_reading())
        end.peer.send(b"x")
        end.peer.shutdown(socket.SHUT_WR)
        await settled()
        assert end.calls == ["made"] and made.is_quiet()
        end.transport.resume_reading()
        await end.until("lost")
        assert (end.story, end.data) == ("made data eof lost", b"x")


@on_each_loop
async def test_a_hang_up_while_reading_is_paused_wakes_nobody(own: bool) -> None:
    """The kernel reports a hang-up to everyone who watches for anything at all."""
    async with ends(own) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.peer.send(b"last words")
        end.peer.close()
        await settled()
        assert end.calls == ["made"] and made.is_quiet()
        end.transport.resume_reading()
        await end.until("lost")
        assert (end.story, end.data) == ("made data eof lost", b"last words")


@on_each_loop
async def test_what_came_before_a_reset_is_read(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.peer.send(b"last words")
        end.reset()
        await settled()
        assert end.calls == ["made"] and made.is_quiet()
        end.transport.resume_reading()
        await end.until("lost")
        assert end.data == b"last words"
        assert end.story == "made data lost" or sys.platform != "linux"  # elsewhere that is no reset


# ---- The peer's half is closed ---------------------------------------------------------------------------------------


@on_each_loop
async def test_after_the_peers_half_is_closed_it_can_still_be_written_to(own: bool) -> None:
    async with ends(own) as made:
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
async def test_a_protocol_that_does_not_keep_the_connection_open_still_sends_what_it_wrote(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect(eof=lambda end: end.transport.write(b"x" * MUCH))
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("eof")
        assert end.transport.is_closing() and "lost" not in end.calls
        assert await end.read_to_end() == b"x" * MUCH
        await end.until("lost")


@on_each_loop
async def test_both_halves_are_closed_and_then_the_connection(own: bool) -> None:
    """First the server's half, then the peer's; nobody is told more than once, and nobody is woken."""
    async with ends(own) as made:
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
async def test_resuming_after_the_end_reads_nothing(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect(eof=lambda end: end.transport.pause_reading() or True)
        end.peer.shutdown(socket.SHUT_WR)
        await end.until("eof")
        if own:  # asyncio's would tell of the end once more
            end.transport.resume_reading()
        await settled()
        assert end.calls == ["made", "eof"] and made.is_quiet()


# ---- Writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@on_each_loop
async def test_what_may_be_written(own: bool, kind: Callable[[bytes], Any]) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.write(kind(b"abc"))
        end.transport.write(kind(b""))
        end.transport.write(kind(b"d"))
        await settled()
        assert end.read() == b"abcd"
        with pytest.raises(TypeError):
            end.transport.write("text")


@on_each_loop
async def test_what_may_not_be_written() -> None:
    async with ends() as made:
        end = await made.connect()
        for wrong in ("text", None, 5, [b"x"]):
            with pytest.raises(TypeError):
                end.transport.write(wrong)
        with pytest.raises(BufferError):
            end.transport.write(memoryview(b"abcd")[::2])
        end.transport.write(memoryview(array("I", [1, 2])))
        assert end.read() == array("I", [1, 2]).tobytes()


@on_each_loop
async def test_a_buffer_may_be_changed_once_it_was_written() -> None:
    async with ends() as made:
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
async def test_much_is_written_in_order(own: bool) -> None:
    async with ends(own) as made:
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
async def test_a_full_kernel_pauses_and_resumes_the_protocol(own: bool) -> None:
    """Above 64 KiB that wait, and again at a quarter of them."""
    skip_uvloop(own, "resume at 16 bytes")
    async with ends(own) as made:
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
async def test_with_a_limit_of_0_every_byte_that_waits_pauses() -> None:
    """That is how an Outbox learns whether the transport holds anything."""
    async with ends() as made:
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
async def test_limits_that_are_changed_while_something_waits() -> None:
    async with ends() as made:
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
async def test_writing_within_resume_writing(own: bool) -> None:
    """What is written there comes behind what waited, and may pause again at once."""

    def more(end: End) -> None:
        if end.calls.count("resume") <= 3:
            end.transport.write(b"b" * MUCH)

    async with ends(own) as made:
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
async def test_closing_within_resume_writing() -> None:
    """asyncio's transports do not expect that."""
    async with ends() as made:
        end = await made.connect(resume=close)
        end.transport.write(bytes(MUCH))
        assert len(await end.read_to_end()) == MUCH
        await end.until("lost")
        assert end.story == "made pause resume lost"


@pytest.mark.parametrize("at", ["pause", "resume"])
@on_each_loop
async def test_aborting_while_writing(at: str) -> None:
    """asyncio's transports do not expect that either."""
    async with ends() as made:
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
async def test_a_writer_whose_peer_has_gone_is_told_by_the_loss(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.peer.close()
        end.transport.write(b"to nobody")
        end.transport.write(b"to nobody")
        await end.until("lost")
        assert end.story == "made lost"


@on_each_loop
async def test_the_peer_goes_while_something_waits_for_it_and_reading_is_paused(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.pause_reading()
        end.transport.write(bytes(MUCH))
        await settled()
        end.peer.close()  # with much unread: that is a reset
        await end.until("lost")
        assert end.story == "made pause lost"
        assert made.is_quiet()


@on_each_loop
async def test_last_words_are_read_though_writing_failed_in_the_same_moment(own: bool) -> None:
    """A client that is slow sends a close frame and quits: that resets the connection, and the frame still counts."""
    async with ends(own) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        await settled()
        end.peer.send(b"last words")
        end.peer.close()
        await end.until("lost")
        assert (end.story, end.data) == ("made pause data lost", b"last words")


@on_each_loop
async def test_a_websocket_does_not_overtake_the_page_before_it(own: bool) -> None:
    """The transport has less of the page left than when it paused its protocol, and more than when it resumes it."""
    async with ends(own) as made:
        limits = {"max_message_size": 1, "max_fragments": 1, "max_backlog": 1 << 20, "max_queue": 1}
        hub = Hub(**limits, drop=False, close_timeout=10, fanout_slice=1)
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
async def test_write_eof_comes_behind_what_waits(own: bool) -> None:
    async with ends(own) as made:
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
async def test_closing_behind_write_eof_sends_what_waits(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        end.transport.write_eof()
        end.transport.close()
        assert len(await end.read_to_end()) == MUCH
        await end.until("lost")


@on_each_loop
async def test_write_eof_of_one_that_is_closing_does_nothing(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        end.transport.close()
        end.transport.write_eof()
        assert len(await end.read_to_end()) == MUCH
        await end.until("lost")


# ---- Endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [close, abort], ids=["close", "abort"])
@pytest.mark.parametrize("first", [close, abort], ids=["close", "abort"])
@on_each_loop
async def test_ending_twice_loses_the_connection_once(
    own: bool, first: Callable[[End], None], second: Callable[[End], None]
) -> None:
    async with ends(own) as made:
        end = await made.connect(lost=second)
        first(end)
        assert end.transport.is_closing()
        second(end)
        assert end.calls == ["made"], "not within the call"
        await settled()
        assert end.calls == ["made", "lost"]
        second(end)
        first(end)
        await settled()
        assert end.calls == ["made", "lost"]
        assert end.peer.recv(1) == b""


@pytest.mark.parametrize("ending", [close, abort], ids=["close", "abort"])
@pytest.mark.parametrize("at", ["made", "data", "eof"])
@on_each_loop
async def test_ending_within_a_callback(own: bool, at: str, ending: Callable[[End], None]) -> None:
    async with ends(own) as made:
        end = await made.connect(**{at: ending})
        if at != "made":
            end.peer.send(b"x" * 1000)
            await settled()
        end.peer.close()
        await end.until("lost")
        await settled()
        assert end.story == {"made": "made lost", "data": "made data lost", "eof": "made data eof lost"}[at]
        assert made.is_quiet()


@on_each_loop
async def test_one_that_is_closing_reads_no_more(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        end.transport.close()
        end.peer.send(b"not read")
        await settled()
        end.transport.resume_reading()
        end.transport.pause_reading()
        await settled()
        assert "lost" not in end.calls and end.data == b"" and made.is_quiet()
        end.transport.write(b"x")
        assert await end.read_to_end() == bytes(MUCH) + b"x"
        await end.until("lost")
        assert end.data == b""


@on_each_loop
async def test_abort_throws_away_what_waits(own: bool) -> None:
    async with ends(own) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        await settled()
        end.transport.abort()
        assert len(await end.read_to_end()) < MUCH
        await end.until("lost")
        assert end.story == "made pause lost"


@on_each_loop
async def test_after_the_loss_every_call_is_harmless() -> None:
    """A task may still have the transport: of a page that is being sent, say."""
    async with ends() as made:
        end = await made.connect()
        end.fill()
        end.transport.write(bytes(MUCH))
        end.transport.abort()
        await end.until("lost")
        transport = end.transport
        for call in (transport.write_eof, transport.pause_reading, transport.resume_reading, transport.close):
            call()
        transport.write(b"x")
        transport.set_write_buffer_limits(0)
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert transport.fd == -1
        assert transport.get_extra_info("peername") is None
        await settled()
        assert end.calls == ["made", "pause", "lost"]


@on_each_loop
async def test_the_descriptor_is_closed_after_the_protocol_was_told(own: bool) -> None:
    async with ends(own) as made:
        open_then: list[bool] = []
        end = await made.connect(lost=lambda end: open_then.append(is_open(end.fd)))
        end.transport.close()
        await end.until("lost")
        assert open_then == [True]
        await settled()
        assert not is_open(end.fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# ---- Exceptions ------------------------------------------------------------------------------------------------------


class Bang(Exception):
    """What the tests' callbacks raise."""


class BigBang(BaseException):
    """Likewise, and not an Exception."""


def bang(end: End) -> None:
    raise Bang


@pytest.mark.parametrize("error", [Bang, BigBang, OSError, asyncio.CancelledError])
@pytest.mark.parametrize("at", ["made", "data", "eof", "resume"])
@on_each_loop
async def test_an_exception_ends_its_connection_and_no_other(at: str, error: type[BaseException]) -> None:
    def fail(end: End) -> None:
        raise error(at)

    async with ends() as made:
        errors = made.catch_errors()
        before, end, behind = await made.connect(), await made.connect(**{at: fail}), await made.connect()
        if at == "resume":
            end.transport.write(bytes(MUCH))
            await settled()
        before.peer.send(b"x")
        if at == "data":
            end.peer.send(b"x")
        elif at == "eof":
            end.peer.shutdown(socket.SHUT_WR)
        behind.peer.send(b"x")
        while at == "resume" and "resume" not in end.calls:
            end.read()
            await settled()
        await end.until("lost")
        (context,) = errors
        assert type(context["exception"]) is error
        assert context["transport"] is end.transport and context["protocol"] is end.protocol
        assert end.calls.count("lost") == 1
        await settled()
        assert before.data == behind.data == b"x"
        assert before.transport.fd >= 0 and behind.transport.fd >= 0
        assert end.transport.fd == -1


@on_each_loop
async def test_an_exception_of_connection_lost_closes_the_descriptor_all_the_same() -> None:
    async with ends() as made:
        errors = made.catch_errors()
        end = await made.connect(lost=bang)
        end.transport.abort()
        await settled()
        assert [type(context["exception"]) for context in errors] == [Bang]
        assert end.transport.fd == -1 and not is_open(end.fd)


@on_each_loop
async def test_an_exception_while_closing_loses_the_connection_once() -> None:
    def fail(end: End) -> None:
        end.transport.abort()
        raise Bang

    async with ends() as made:
        errors = made.catch_errors()
        end = await made.connect(data=fail)
        end.peer.send(b"x")
        await settled()
        assert len(errors) == 1 and end.calls == ["made", "data", "lost"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_passes_and_costs_nobody_anything(loop_factory: LoopFactory, error: type[BaseException]) -> None:
    """It is the user's, or the system's, and is not about this connection."""
    raised = []

    def leave(end: End) -> None:
        if not raised:
            raised.append(True)
            raise error

    async def start() -> Ends:
        made = Ends()
        for _ in range(3):
            await made.connect(data=leave)
        return made

    loop = loop_factory()
    try:
        made = loop.run_until_complete(start())
        for end in made.made:
            end.peer.send(b"x")
        with pytest.raises(error):
            loop.run_until_complete(settled())
        loop.run_until_complete(settled())
        assert [end.data for end in made.made] == [b"x"] * 3
        assert all(end.calls == ["made", "data"] for end in made.made)
        loop.run_until_complete(made.close())
    finally:
        loop.close()


# ---- Several connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["close", "abort", "pause_reading"])
@on_each_loop
async def test_one_connection_ends_another_that_is_ready_in_the_same_moment(what: str) -> None:
    """Whoever is first ends the other, which must not hear of what the kernel had said already."""

    async with ends() as made:
        pair: list[End] = []

        def end_other(end: End) -> None:
            getattr(pair[pair[0] is end].transport, what)()

        pair += [await made.connect(data=end_other), await made.connect(data=end_other)]
        for end in pair:
            end.peer.send(b"x")
        await settled()
        assert sorted(end.data for end in pair) == [b"", b"x"]
        told = [end for end in pair if not end.data]
        assert told[0].calls == (["made"] if what == "pause_reading" else ["made", "lost"])
        assert made.is_quiet()


@on_each_loop
async def test_the_descriptor_of_one_that_ended_may_be_anothers_at_once() -> None:
    """What the kernel said of the old one, in the same moment, is not taken for news of the new one."""
    async with ends() as made:
        fresh: list[End] = []

        def replace(end: End) -> None:
            for other in made.made[:]:
                if other is not end:
                    other.transport.abort()

        olds = [await made.connect(data=replace) for _ in range(3)]
        for end in olds:
            end.peer.send(b"old")
        await settled()
        freed = {end.fd for end in olds if end.transport.fd == -1}
        fresh += [await made.connect() for _ in range(2)]
        assert freed & {end.fd for end in fresh}
        await settled()
        assert [end.calls for end in fresh] == [["made"]] * 2
        fresh[0].peer.send(b"new")
        await settled()
        assert [end.data for end in fresh] == [b"new", b""]


@on_each_loop
async def test_more_are_ready_than_the_kernel_tells_at_once() -> None:
    async with ends() as made:
        many = [await made.connect() for _ in range(600)]
        for i, end in enumerate(many):
            end.peer.send(b"%d" % i)
        await settled()
        assert [end.data for end in many] == [b"%d" % i for i in range(600)]
        for end in many:
            end.peer.close()
        await settled()
        assert {end.story for end in many} == {"made data eof lost"}


@on_each_loop
async def test_a_flood_starves_neither_others_nor_the_loop() -> None:
    """A connection that always has more to read gets one read a turn."""

    def flood(end: End) -> None:
        end.data = b""
        try:
            while True:
                end.peer.send(bytes(1 << 16))
        except BlockingIOError:
            pass

    async with ends() as made:
        floods = [await made.connect(data=flood) for _ in range(300)]
        quiet = await made.connect()
        for end in floods:
            end.peer.send(b"x")
        await settled()
        before = [len(end.calls) for end in floods]
        called: list[str] = []
        asyncio.get_running_loop().call_later(0, called.append, "timer")
        quiet.peer.send(b"x")
        await settled()
        assert quiet.data == b"x"
        assert called == ["timer"]
        after = [len(end.calls) for end in floods]
        assert all(0 < new - old <= 16 for old, new in zip(before, after, strict=True)), "each has its turn"


# ---- Contexts --------------------------------------------------------------------------------------------------------

current: ContextVar[str] = ContextVar("current", default="nobody's")


@on_each_loop
async def test_callbacks_share_a_context_of_their_own() -> None:
    """As with asyncio's transports: what one callback sets the next ones see, and nobody else."""
    seen: list[tuple[str, str]] = []

    async with ends() as made:
        current.set("the starter's")

        def note(end: End) -> None:
            seen.append((end.calls[-1], current.get()))
            current.set(f"{end.fd}'s {end.calls[-1]}")

        names = ["made", "data", "pause", "resume", "eof", "lost"]
        one, two = [await made.connect(**dict.fromkeys(names, note)) for _ in range(2)]
        assert seen == [("made", "the starter's")] * 2
        assert current.get() == "the starter's"
        for end in (one, two):
            end.peer.send(b"x")
        await settled()
        assert seen[2:] == [("data", f"{end.fd}'s made") for end in (one, two)]
        del seen[:]
        one.fill()
        one.transport.set_write_buffer_limits(0)
        asyncio.get_running_loop().call_soon(one.transport.write, b"x")  # not from a callback: in the caller's context
        await settled()
        assert seen == [("pause", "the starter's")]
        one.read()
        await settled()
        one.peer.shutdown(socket.SHUT_WR)
        await one.until("lost")
        assert [what for what, _ in seen[1:]] == ["resume", "eof", "lost"]
        assert [where for _, where in seen[1:]] == [f"{one.fd}'s {what}" for what in ("data", "resume", "eof")]


@on_each_loop
async def test_a_timer_that_a_callback_sets_runs_in_its_context() -> None:
    seen: list[str] = []

    def set_timer(end: End) -> None:
        current.set(f"{end.fd}'s")
        asyncio.get_running_loop().call_later(0, lambda: seen.append(current.get()))

    async with ends() as made:
        one, two = [await made.connect(data=set_timer) for _ in range(2)]
        for end in (one, two):
            end.peer.send(b"x")
        await settled()
        assert sorted(seen) == sorted([f"{one.fd}'s", f"{two.fd}'s"])
        assert one.transport.get_extra_info("context").get(current) == f"{one.fd}'s"


@on_each_loop
async def test_the_loss_is_told_in_the_connections_context_whoever_brings_it_about() -> None:
    async with ends() as made:
        seen: list[str] = []
        end = await made.connect(made=lambda end: current.set("its own"), lost=lambda end: seen.append(current.get()))
        current.set("the closer's")
        end.transport.close()
        await end.until("lost")
        assert seen == ["its own"]


# ---- What a transport says of itself ---------------------------------------------------------------------------------


@on_each_loop
async def test_what_is_known_of_the_peer_of_a_socket_pair() -> None:
    async with ends() as made:
        end = await made.connect()
        assert end.transport.get_extra_info("peername") is None
        assert end.transport.get_extra_info("peername", 5) == 5
        assert end.transport.get_extra_info("socket", "default") == "default"


@on_each_loop
async def test_what_it_is_made_of() -> None:
    async with ends() as made:
        protocol = Recorded(made.turn, None)
        with socket.socket() as sock:
            for arguments in [(None, protocol, 0), (made.poller, None, 0), (made.poller, protocol, None), ()]:
                with pytest.raises(TypeError):
                    StreamTransport(*arguments)  # type: ignore[arg-type]
            assert is_open(0) and is_open(sock.fileno())


# ---- Children --------------------------------------------------------------------------------------------------------

WAIT = "import sys; sys.stdout.write('up'); sys.stdout.flush(); sys.stdin.read()"


@on_each_loop
async def test_a_process_that_is_started_meanwhile_does_not_keep_the_poller_open() -> None:
    async with ends() as made:
        fds = {made.loop.fd}
        command = [sys.executable, "-c", WAIT]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
            assert child.stdout is not None
            child.stdout.read(2)
            if os.path.isdir(f"/proc/{child.pid}/fd"):
                kept = [os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{child.pid}/fd")]
                assert not [name for name in kept if "eventpoll" in name or "socket" in name], kept
            child.communicate()
        assert fds


@on_each_loop
async def test_a_connection_that_a_fork_has_too_is_forgotten_when_it_ends() -> None:
    """The kernel goes on watching a descriptor until the last process has closed it, unless it is told not to."""
    async with ends() as made:
        end = await made.connect()
        with end.server():  # as a process that was forked would
            end.transport.abort()
            await end.until("lost")
            await settled()
            end.peer.send(b"to whom?")
            await settled()
            assert made.is_quiet() and end.data == b""


# ---- Nothing is left behind ------------------------------------------------------------------------------------------


def end_by_peer(end: End) -> None:
    end.peer.close()


def end_by_reset(end: End) -> None:
    end.reset()


def end_by_exception(end: End) -> None:
    end.does["data"] = bang
    end.peer.send(b"x")


def end_with_much_waiting(end: End) -> None:
    end.transport.write(bytes(MUCH))
    end.transport.abort()


ENDINGS = [close, abort, end_by_peer, end_by_reset, end_by_exception, end_with_much_waiting]


@pytest.mark.parametrize("ending", ENDINGS, ids=[each.__name__ for each in ENDINGS])
@on_each_loop
async def test_every_ending_frees_transport_and_protocol(ending: Callable[[End], None]) -> None:
    """Without the garbage collector: transports are none of its business."""

    async def come_and_go(made: Ends) -> None:
        many = [await made.connect() for _ in range(50)]
        for end in many:
            ending(end)
        for end in many:
            await end.until("lost")
        await settled()
        protocols = [weakref.ref(end.protocol) for end in many]
        made.made.clear()
        made.errors.clear()
        references = {sys.getrefcount(end.transport) for end in many}
        assert references == {2}, "its end, and the argument"
        for end in many:
            end.peer.close()
            end.transport = end.protocol = None  # type: ignore[assignment]
        assert not any(protocol() for protocol in protocols)

    async with ends() as made:
        made.catch_errors()
        gc.disable()
        try:
            for _ in range(3):
                await come_and_go(made)
            before = sys.getallocatedblocks()
            for _ in range(10):
                await come_and_go(made)
            assert sys.getallocatedblocks() - before < 100, "500 connections came and went"
        finally:
            gc.enable()


def test_a_loop_that_is_closed_leaves_no_descriptors(loop_factory: LoopFactory) -> None:
    """Whatever the connections are at. What is called then is harmless."""

    async def start() -> list[End]:
        made = Ends()
        _, paused, writing, closing, _ = [await made.connect() for _ in range(5)]
        paused.transport.pause_reading()
        writing.transport.write(bytes(MUCH))
        closing.transport.write(bytes(MUCH))
        closing.transport.close()
        return made.made

    loop = loop_factory()
    many = loop.run_until_complete(start())
    many[-1].transport.abort()  # the loop has no turn left to tell its protocol
    with pytest.warns(ResourceWarning, match="closed with sockets of crest's in use"):
        loop.close()
    del loop
    for end in many:
        assert not is_open(end.fd)
        end.transport.write(b"x")
        end.transport.resume_reading()
        end.transport.pause_reading()
        end.transport.write_eof()
        end.transport.close()
        end.transport.abort()
        assert end.transport.is_closing()
        assert end.transport.get_extra_info("context") is None
        assert "lost" not in end.calls
        end.peer.close()


@on_each_loop
async def test_a_poller_that_is_closed_ends_its_connections() -> None:
    async with ends() as made:
        many = [await made.connect() for _ in range(3)]
        many[0].transport.pause_reading()
        many[1].transport.write(bytes(MUCH))
        many[2].peer.send(b"x")
        assert made.poller is not None
        made.poller.close()
        made.poller.close()
        await settled()
        assert [end.calls[-1] for end in many] == ["lost"] * 3
        assert not any(is_open(end.fd) for end in many)


@on_each_loop
async def test_a_connection_closes_the_poller_that_tells_it() -> None:
    """What was found ready together with it is not told any more."""
    async with ends() as made:
        poller = made.poller
        assert poller is not None
        many = [await made.connect(data=lambda end: poller.close()) for _ in range(5)]
        for end in many:
            end.peer.send(b"x")
        await settled()
        assert sorted(end.data for end in many) == [b""] * 4 + [b"x"]
        assert all(end.calls[-1] == "lost" for end in many)


# ---- Any sequence of anything ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@on_each_loop
async def test_any_sequence_of_calls_keeps_the_rules(seed: int, own: bool) -> None:
    """Of asyncio's protocols: made first, lost once and last, an end of stream once at most, pauses and resumptions in
    turn; what one side sends the other gets, in order, without a gap."""
    chance = random.Random(seed)
    async with ends(own) as made:
        for _ in range(15):
            await live_a_life(made, chance)


async def live_a_life(made: Ends, chance: random.Random) -> None:
    def choose(end: End) -> bool:
        return chance.random() < 0.7

    end = await made.connect(eof=choose)
    sent, written, got = bytearray(), bytearray(), bytearray()
    peer_open = peer_writes = server_writes = True

    def receive(most: int) -> None:
        if peer_open:
            got.extend(end.read(most))

    for i in range(chance.randint(1, 60)):
        doing = chance.random()
        data = bytes([i]) * chance.choice([1, 100, 10_000, 200_000])
        if doing < 0.25 and peer_open and peer_writes:
            try:
                sent += data[: end.peer.send(data)]
            except (BlockingIOError, BrokenPipeError):
                pass
        elif doing < 0.45 and server_writes and not end.transport.is_closing():
            written += data
            end.transport.write(data)
        elif doing < 0.6:
            receive(chance.choice([100, 50_000, 1 << 20]))
        elif doing < 0.65:
            end.transport.pause_reading()
        elif doing < 0.75:
            if "eof" not in end.calls or made.poller:  # asyncio's would tell of the end once more
                end.transport.resume_reading()
        elif doing < 0.77 and peer_open:
            end.peer.shutdown(socket.SHUT_WR)
            peer_writes = False
        elif doing < 0.79 and not end.transport.is_closing():
            try:
                end.transport.write_eof()
            except OSError:
                end.transport.abort()
            server_writes = False
        elif doing < 0.80:
            end.transport.close()
        elif doing < 0.81:
            end.peer.close()
            peer_open = False
        else:
            await settled()
    if peer_open and chance.random() < 0.7:
        clean = not end.transport.is_closing() or "lost" not in end.calls
        end.transport.close()
        async with asyncio.timeout(GUARD):
            while "lost" not in end.calls:
                receive(1 << 20)
                await settled()
        receive(1 << 30)
        if clean and "aborted" not in end.calls:
            assert got == written
    elif "lost" not in end.calls:  # asyncio's transports raise an error then
        end.transport.abort()
        await end.until("lost")
    await settled()
    end.peer.close()
    assert written.startswith(got) and sent.startswith(end.data)
    told = [name for name in end.calls if name != "data"]
    assert told[0] == "made" and told[-1] == "lost" and told.count("lost") == 1
    assert told.count("eof") <= 1
    assert "data" not in end.calls[end.calls.index("eof") :] if "eof" in end.calls else True
    paces = [name for name in told if name in ("pause", "resume")]
    assert paces == ["pause", "resume"] * (len(paces) // 2) + ["pause"] * (len(paces) % 2)
