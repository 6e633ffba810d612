"""io/net/stream and io/net/acceptor on a kernel that fails: every error that recv, send, accept and epoll may give.

Each case runs in a process of its own, this file as a program, in which flaky.c stands before the C library.
"""

import asyncio
import ctypes
import errno
import inspect
import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from support.door import door_of
from support.ends import End, ends, settled
from support.link import Loop

HERE = Path(__file__)
CASES: dict[str, Callable[[], None]] = {}
MUCH = 1 << 20


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> str:
    """LD_PRELOAD for it, behind what there is already: a sanitizer must come first."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("flaky") / "flaky.so"
    source = HERE.with_name("flaky.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))


def flaky(call: str, fd: int, error: int, times: int = 1) -> None:
    """Have so many calls fail with this error; 0: be short."""
    assert ctypes.CDLL(None).flaky(call.encode(), fd, error, times) == 0, "flaky.c has room for so many rules only"


def all_happened() -> bool:
    return ctypes.CDLL(None).flaky_left() == 0


def case(test: Callable[[], Any]) -> Callable[[], Any]:
    """It is one of CASES; if it is async, on asyncio's loop and uvloop's."""
    name = test.__name__.removesuffix("_")
    if not inspect.iscoroutinefunction(test):
        CASES[name] = test
        return test
    CASES[f"{name}-asyncio"] = lambda: run(test(), asyncio.new_event_loop)

    def on_uvloop() -> None:
        import uvloop

        run(test(), uvloop.new_event_loop)

    CASES[f"{name}-uvloop"] = on_uvloop
    return test


def run(main: Coroutine[Any, Any, None], factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


class Log(logging.Handler):
    """What crest logs in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logging.getLogger("crest").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


# ---- Reading and writing ---------------------------------------------------------------------------------------------


@case
async def reads_are_interrupted() -> None:
    async with ends() as made:
        end = await made.connect()
        for error in (errno.EINTR, errno.EAGAIN, errno.EINTR, errno.EWOULDBLOCK):
            flaky("recv", end.fd, error)
            end.peer.send(b"x")
            await settled()
        assert end.data == b"x" * 4 and all_happened()


@case
async def reads_are_short() -> None:
    async with ends() as made:
        end = await made.connect()
        flaky("recv", end.fd, 0, 1000)
        sent = random.Random(1).randbytes(1000)
        end.peer.send(sent)
        end.peer.close()
        await end.until("lost")
        assert (end.data, end.story) == (sent, "made data eof lost") and all_happened()


@case
async def reads_fail() -> None:
    """Nobody's mistake: not a word of it in the log, nor in the loop's exception handler."""
    log = Log()
    async with ends() as made:
        errors = made.catch_errors()
        for error in (errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENOTCONN):
            end = await made.connect()
            flaky("recv", end.fd, error)
            end.peer.send(b"x")
            await end.until("lost")
            assert end.story == "made lost" and all_happened()
        assert errors == [] and log.lines == []


@case
async def writes_are_short_and_find_no_memory() -> None:
    async with ends() as made:
        end = await made.connect()
        chance, sent = random.Random(1), b""
        for _ in range(50):
            data = chance.randbytes(chance.randint(1, 5000))
            for _ in range(3 if all_happened() else 0):
                error = chance.choice([0, 0, errno.EINTR, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
                flaky("send", end.fd, error)
            end.transport.write(data)
            sent += data
        end.transport.close()
        assert await end.read_to_end() == sent
        await end.until("lost")


@case
async def writes_fail() -> None:
    async with ends() as made:
        errors = made.catch_errors()
        for error in (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH):
            at_once, later = await made.connect(), await made.connect()
            flaky("send", at_once.fd, error)
            at_once.transport.write(b"x")
            flaky("send", later.fd, errno.EAGAIN)
            later.transport.write(b"x")
            flaky("send", later.fd, error)
            for end in (at_once, later):
                await end.until("lost")
                assert end.story == "made lost" and all_happened()
        assert errors == []


@case
async def the_writing_half_can_not_be_shut_down() -> None:
    async with ends() as made:
        end, busy = await made.connect(), await made.connect()
        flaky("shutdown", end.fd, errno.ENOTCONN)
        end.transport.write_eof()
        flaky("shutdown", busy.fd, errno.ENOTCONN)
        busy.transport.write(bytes(MUCH))
        busy.transport.write_eof()
        while not all_happened():
            busy.read()
            await settled()
        assert not end.transport.is_closing() and not busy.transport.is_closing(), "reading will tell"


# ---- Watching --------------------------------------------------------------------------------------------------------


def no_memory(end: End, call: str = "epoll_add") -> None:
    flaky(call, end.fd, errno.ENOSPC)


@case
async def a_connection_can_not_be_watched() -> None:
    """At its start, when it goes on reading, or when it has to wait for the kernel: it ends, and it alone."""

    async with ends() as made:
        errors = made.catch_errors()
        other = await made.connect()
        start = await made.connect(made=no_memory)
        await start.until("lost")
        resume = await made.connect()
        resume.transport.pause_reading()  # and watched for its end: Linux itself needs no memory to watch for more
        no_memory(resume, "epoll_mod")
        resume.transport.resume_reading()
        await resume.until("lost")
        write = await made.connect()
        write.transport.pause_reading()
        no_memory(write, "epoll_mod")
        write.transport.write(bytes(MUCH))
        await write.until("lost")
        assert [context["exception"].errno for context in errors] == [errno.ENOSPC] * 3
        assert [context["transport"] for context in errors] == [start.transport, resume.transport, write.transport]
        assert all(end.story == "made lost" for end in (start, resume, write)) and all_happened()
        other.peer.send(b"x")
        await settled()
        assert other.data == b"x"


@case
async def to_watch_for_less_can_not_fail() -> None:
    """A kqueue may have dropped a filter by itself."""
    async with ends() as made:
        errors = made.catch_errors()
        end = await made.connect()
        flaky("epoll_del", end.fd, errno.ENOENT)
        end.transport.abort()
        await end.until("lost")
        assert errors == [] and end.transport.fd == -1 and all_happened()


@case
async def the_poll_is_interrupted() -> None:
    async with ends() as made:
        end = await made.connect()
        flaky("epoll_wait", made.loop.fd, errno.EINTR, 3)
        end.peer.send(b"x")
        await settled()
        assert end.data == b"x" and all_happened()


@case
async def the_poll_fails() -> None:
    """Whatever that was: it is reported, and the next turn tries again."""
    async with ends() as made:
        errors = made.catch_errors()
        end = await made.connect()
        flaky("epoll_wait", made.loop.fd, errno.EINVAL)
        end.peer.send(b"x")
        await settled()
        assert [context["exception"].errno for context in errors] == [errno.EINVAL]
        assert end.data == b"x"


# ---- Accepting -------------------------------------------------------------------------------------------------------


@case
def connections_that_are_gone_already() -> None:
    """They are not ours to worry about, nor a reason to keep others waiting."""
    log, loop = Log(), Loop()
    with door_of(loop) as made:
        names = ["ECONNABORTED", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH"]
        for name in [*names, "ENETUNREACH", "EPERM", "EINTR"]:
            flaky("accept4", made.acceptor.fd, getattr(errno, name))
        made.knock()
        loop.turn(2)
        assert len(made.visitors) == 1 and log.lines == [] and loop.pending() == []
        assert all_happened()
    loop.close()


@case
def no_room_for_a_connection() -> None:
    log, loop = Log(), Loop()
    with door_of(loop) as made:
        for number, name in enumerate(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EOPNOTSUPP"], 1):
            made.knock()
            error = getattr(errno, name)
            flaky("accept4", made.acceptor.fd, error)
            loop.turn(2)
            text = f"Connections cannot be accepted: {os.strerror(error)}. The next attempt is in 1 s."
            assert log.lines[number - 1 :] == [text]
            assert loop.pending() == [1] and made.loop.is_quiet() and len(made.visitors) == number - 1
            loop.advance(1)
            loop.turn(2)
            assert len(made.visitors) == number and loop.pending() == []
    loop.close()


@case
def the_listening_socket_can_not_be_watched() -> None:
    """After a pause: the pause goes on."""
    log, loop = Log(), Loop()
    with door_of(loop) as made:
        made.knock()
        flaky("accept4", made.acceptor.fd, errno.EMFILE)
        flaky("epoll_add", made.acceptor.fd, errno.ENOSPC)
        loop.turn(2)
        loop.advance(1)
        assert log.lines[1:] == ["Connections cannot be accepted: No space left on device. The next attempt is in 1 s."]
        assert loop.pending() == [1] and made.visitors == []
        loop.advance(1)
        loop.turn(2)
        assert len(made.visitors) == 1
    loop.close()


@pytest.mark.parametrize("name", CASES)
def test_flaky_kernel(preload: str, name: str) -> None:
    if name.endswith("uvloop"):
        pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE), name],
        env={**os.environ, "LD_PRELOAD": preload, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    CASES[sys.argv[1]]()
