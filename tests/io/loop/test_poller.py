"""crest.io.loop.poller: one descriptor on the loop for all of crest's own. What it tells whom is in test_stream.py."""

import asyncio
import gc
import os
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import LoopFactory
from support.endings import is_open
from support.ends import Ends, ends, settled
from support.events import on_each_loop

from crest.io.loop.poller import Poller

pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")


@pytest.fixture(autouse=True)
def _no_garbage() -> None:
    """Descriptors of this process are counted: those of other tests' garbage must not go meanwhile."""
    gc.collect()


def descriptors() -> set[int]:
    """Those of this process; the one that lists them is closed again, and so is not among them."""
    directory = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    found = {int(name) for name in os.listdir(directory)}
    return {fd for fd in found if is_open(fd)}


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    made = loop_factory()
    yield made
    if not made.is_closed():
        made.close()


# ---- The beginning ---------------------------------------------------------------------------------------------------


def test_it_has_a_loop(loop: asyncio.AbstractEventLoop) -> None:
    poller = Poller(loop)
    assert poller.loop is loop
    poller.close()


@pytest.mark.parametrize("arguments", [(), (None,), (1, 2)])
def test_wrong_arguments_close_nothing(arguments: tuple[Any, ...]) -> None:
    """Least of all descriptor 0."""
    before = descriptors()
    with pytest.raises(TypeError):
        Poller(*arguments)
    assert descriptors() == before and is_open(0)


def test_a_loop_that_refuses_costs_no_descriptor(loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
    before = descriptors()
    with pytest.raises(RuntimeError):
        Poller(loop)
    assert descriptors() == before


def test_without_a_descriptor_left(loop: asyncio.AbstractEventLoop) -> None:
    resource = pytest.importorskip("resource")
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError) as raised:
            Poller(loop)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised.value.errno == 24


# ---- The end ---------------------------------------------------------------------------------------------------------


def test_closing_it_twice(loop: asyncio.AbstractEventLoop) -> None:
    before = descriptors()
    poller = Poller(loop)
    assert len(descriptors()) == len(before) + 1
    poller.close()
    assert descriptors() == before
    taken = [os.dup(0) for _ in range(3)]  # one of these has the descriptor that it had
    poller.close()
    del poller
    assert all(is_open(fd) for fd in taken)
    for fd in taken:
        os.close(fd)


def test_the_loop_is_closed_and_nothing_was_open(loop: asyncio.AbstractEventLoop) -> None:
    before = descriptors()
    poller = Poller(loop)
    loop.close()
    assert len(descriptors()) < len(before), "the loop's own are gone, and the poller's"
    poller.close()


def test_the_loop_is_closed_and_a_connection_was_open(loop: asyncio.AbstractEventLoop) -> None:
    async def start() -> Ends:
        made = Ends()
        await made.connect()
        return made

    made = loop.run_until_complete(start())
    with pytest.warns(ResourceWarning, match="an event loop was closed with sockets of crest's in use"):
        loop.close()
    assert not is_open(made.loop.fd)
    (end,) = made.made
    assert not is_open(end.fd)
    assert end.peer.recv(1) == b""
    end.peer.close()


def test_the_warning_does_not_keep_it_from_cleaning_up(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda each: unraisable.append(type(each.exc_value)))

    async def start() -> Ends:
        made = Ends()
        await made.connect()
        return made

    made = loop.run_until_complete(start())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.close()
    assert unraisable == [ResourceWarning]
    assert not is_open(made.loop.fd)
    assert not is_open(made.made[0].fd)
    made.made[0].peer.close()


def test_a_closed_loop_is_freed_with_all_that_was_connected(loop_factory: LoopFactory) -> None:
    """Connections of a loop that was closed and the loop refer to each other."""

    async def start() -> list[Any]:
        made = Ends()
        for _ in range(3):
            await made.connect()
        made.made[0].transport.pause_reading()
        return [made, *made.made]

    loop = loop_factory()
    made, *many = loop.run_until_complete(start())
    seen = [weakref.ref(loop), weakref.ref(made), *(weakref.ref(end.protocol) for end in many)]
    with pytest.warns(ResourceWarning):
        loop.close()
    for end in many:
        end.peer.close()
        end.protocol = None  # type: ignore[assignment]  # the garbage collector does not visit protocols
    del loop, made, many, end
    gc.collect()
    assert [each() for each in seen] == [None] * 5


# ---- Several ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_pollers_of_one_loop_do_not_know_each_other() -> None:
    async with ends() as one, ends() as two:
        first, second = await one.connect(), await two.connect()
        first.peer.send(b"1")
        second.peer.send(b"2")
        await settled()
        assert (first.data, second.data) == (b"1", b"2")
        assert one.poller is not None
        one.poller.close()
        second.peer.send(b"2")
        await settled()
        assert first.calls[-1] == "lost" and second.data == b"22"


@on_each_loop
async def test_a_descriptor_is_anothers_when_its_connection_has_ended() -> None:
    """Hundreds of times, and in any order."""
    async with ends() as made:
        many = [await made.connect() for _ in range(5)]
        for i in range(300):
            end = many.pop(i * 7 % 5)
            end.transport.abort() if i % 2 else end.peer.close()
            await end.until("lost")
            await settled()
            end.peer.close()
            many.append(await made.connect())
            for each in many:
                each.peer.send(b"x")
            await settled()
            assert all(each.data.endswith(b"x") for each in many)
            for each in many:
                each.data = b""
        made.made = many


@on_each_loop
async def test_a_loop_has_one_descriptor_for_any_number_of_connections() -> None:
    async with ends() as made:
        for _ in range(10):
            await made.connect()
        assert len(made.loop.fds) == 1
