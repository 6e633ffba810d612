"""crest.io.net.stream: the end of a connection, whoever brings it about and whenever; nothing of it is left behind."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
from conftest import LoopFactory
from support.endings import abort, close, is_open
from support.ends import MUCH, End, Ends, Whose, ends, settled
from support.events import on_each_loop

from crest.io.loop.poller import Poller

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")


# ---- Endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [close, abort], ids=["close", "abort"])
@pytest.mark.parametrize("first", [close, abort], ids=["close", "abort"])
@on_each_loop
async def test_ending_twice_loses_the_connection_once(
    whose: Whose, first: Callable[[End], None], second: Callable[[End], None]
) -> None:
    async with ends(whose) as made:
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
async def test_ending_within_a_callback(whose: Whose, at: str, ending: Callable[[End], None]) -> None:
    async with ends(whose) as made:
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
async def test_one_that_is_closing_reads_no_more(whose: Whose) -> None:
    async with ends(whose) as made:
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
async def test_abort_throws_away_what_waits(whose: Whose) -> None:
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.write(bytes(MUCH))
        await settled()
        end.transport.abort()
        assert len(await end.read_to_end()) < MUCH
        await end.until("lost")
        assert end.story == "made pause lost"


@on_each_loop
async def test_nothing_is_written_any_more_once_it_was_aborted(whose: Whose) -> None:
    """Nor before the protocol has been told."""
    async with ends(whose) as made:
        end = await made.connect()
        end.transport.write(b"before")
        await settled()
        end.transport.abort()
        end.transport.write(b"behind")
        assert await end.read_to_end() == b"before"
        await end.until("lost")


@on_each_loop
async def test_after_the_loss_every_call_is_harmless(ours: Whose) -> None:
    """A task may still have the transport: of a page that is being sent, say."""
    async with ends(ours) as made:
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
async def test_the_descriptor_is_closed_after_the_protocol_was_told(whose: Whose) -> None:
    async with ends(whose) as made:
        open_then: list[bool] = []
        end = await made.connect(lost=lambda end: open_then.append(is_open(end.fd)))
        end.transport.close()
        await end.until("lost")
        assert open_then == [True]
        await settled()
        assert not is_open(end.fd)


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
async def test_an_exception_ends_its_connection_and_no_other(ours: Whose, at: str, error: type[BaseException]) -> None:
    def fail(end: End) -> None:
        raise error(at)

    async with ends(ours) as made:
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
async def test_an_exception_of_connection_lost_closes_the_descriptor_all_the_same(ours: Whose) -> None:
    async with ends(ours) as made:
        errors = made.catch_errors()
        end = await made.connect(lost=bang)
        end.transport.abort()
        await settled()
        assert [type(context["exception"]) for context in errors] == [Bang]
        assert end.transport.fd == -1 and not is_open(end.fd)


@on_each_loop
async def test_an_exception_while_closing_loses_the_connection_once(ours: Whose) -> None:
    def fail(end: End) -> None:
        end.transport.abort()
        raise Bang

    async with ends(ours) as made:
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


# ---- Children --------------------------------------------------------------------------------------------------------

WAIT = "import sys; sys.stdout.write('up'); sys.stdout.flush(); sys.stdin.read()"


@on_each_loop
async def test_a_process_that_is_started_meanwhile_does_not_keep_the_poller_open(ours: Whose) -> None:
    async with ends(ours) as made:
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
async def test_a_connection_that_a_fork_has_too_is_forgotten_when_it_ends(ours: Whose) -> None:
    """The kernel goes on watching a descriptor until the last process has closed it, unless it is told not to."""
    async with ends(ours) as made:
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
async def test_every_ending_frees_transport_and_protocol(ours: Whose, ending: Callable[[End], None]) -> None:
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

    async with ends(ours) as made:
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
async def test_a_poller_that_is_closed_ends_its_connections(ours: Whose) -> None:
    async with ends(ours) as made:
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
async def test_a_connection_closes_the_poller_that_tells_it(ours: Whose) -> None:
    """What was found ready together with it is not told any more."""
    async with ends(ours) as made:
        poller = made.poller
        assert poller is not None
        many = [await made.connect(data=lambda end: poller.close()) for _ in range(5)]
        for end in many:
            end.peer.send(b"x")
        await settled()
        assert sorted(end.data for end in many) == [b""] * 4 + [b"x"]
        assert all(end.calls[-1] == "lost" for end in many)
