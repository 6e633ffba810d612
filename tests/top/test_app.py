"""crest.app: which server is served where, by which app; and how an app is run inside a loop."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import LoopFactory
from support.client import GUARD, connect, handshake, tcp
from support.events import Events, on_each_loop
from websockets.exceptions import InvalidStatus

import crest
from crest import App, ConfigurationError, ListenError, WebSocketServer


def named(name: str, path: str = "/ws") -> WebSocketServer:
    """A server that greets with its name."""
    ws = WebSocketServer(path)
    ws.on_connect(lambda conn: conn.send(name))
    return ws


async def greeting(server: Any, path: str) -> str:
    """Who serves this path."""
    async with connect(server, path) as client:
        return str(await client.recv())


async def status(server: Any, path: str) -> int:
    """The answer to an upgrade request for this path."""
    async with tcp(server) as client:
        await client.send(handshake(path))
        return (await client.answer()).status


# ---- Public names ----------------------------------------------------------------------------------------------------


def test_everything_public_is_in_all_and_nothing_else() -> None:
    names = {"App", "Request", "Response", "WebSocketConnection", "WebSocketServer", "__version__"}
    assert names < set(crest.__all__)
    assert len(crest.__all__) == len(set(crest.__all__))
    for name in crest.__all__:
        assert hasattr(crest, name)


def test_the_version_is_a_str_of_numbers() -> None:
    assert isinstance(crest.__version__, str)
    assert crest.__version__.split(".")[0].isdigit()


# ---- Attachment ------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_server_that_was_never_mounted_is_served_at_ws() -> None:
    ws = named("it")
    async with App().listening() as server:
        assert await greeting(server, "/ws") == "it"
    assert ws.path == "/ws"


@on_each_loop
async def test_it_does_not_matter_whether_the_server_is_made_before_the_app() -> None:
    before = named("before", "/before")
    app = App()
    after = named("after", "/after")
    async with app.listening() as server:
        assert await greeting(server, before.path) == "before"
        assert await greeting(server, after.path) == "after"


@on_each_loop
async def test_a_path_of_its_own_puts_a_server_elsewhere() -> None:
    ws = named("game", "/game")
    async with App().listening() as server:
        assert await greeting(server, ws.path) == "game"
        assert await status(server, "/ws") == 404


@on_each_loop
async def test_mount_puts_a_server_elsewhere_whatever_its_path() -> None:
    app, one, two = App(), named("one"), named("two", "/two")
    app.mount("/game", one)
    app.mount("/other", two)
    async with app.listening() as server:
        assert await greeting(server, "/game") == "one"
        assert await greeting(server, "/other") == "two"
        assert await status(server, "/ws") == 404
        assert await status(server, "/two") == 404


@on_each_loop
async def test_several_servers_live_in_one_app() -> None:
    app = App()
    servers = [named("never mounted"), named("by path", "/path")]
    app.mount("/mounted", named("mounted"))
    async with app.listening() as server:
        assert await greeting(server, "/ws") == "never mounted"
        assert await greeting(server, "/path") == "by path"
        assert await greeting(server, "/mounted") == "mounted"
    assert len(servers) == 2


@on_each_loop
async def test_one_server_may_have_several_paths() -> None:
    app, ws, opened = App(), WebSocketServer(), Events()
    ws.on_connect(opened.add)
    app.mount("/a", ws)
    app.mount("/b", ws)
    async with app.listening() as server, connect(server, "/a") as one, connect(server, "/b") as two:
        await opened.reach(2)
        ws.broadcast("to all")
        assert [await one.recv(), await two.recv()] == ["to all", "to all"]


@on_each_loop
async def test_mounting_a_server_twice_at_one_path_is_no_conflict() -> None:
    app, ws = App(), named("it")
    app.mount("/ws", ws)
    app.mount("/ws", ws)
    async with app.listening() as server:
        assert await greeting(server, "/ws") == "it"


@on_each_loop
async def test_a_server_that_is_mounted_belongs_to_that_app_alone() -> None:
    app, other, ws = App(), App(), named("mounted")
    app.mount("/ws", ws)
    async with other.listening() as server:
        assert await status(server, "/ws") == 404


@pytest.mark.parametrize("mounted", [0, 1, 2])
@on_each_loop
async def test_two_servers_on_one_path_are_an_error_that_names_both(mounted: int) -> None:
    app, one = App(), WebSocketServer("/game")
    two = WebSocketServer("/game")  # a line of its own tells it from the other
    for ws in (one, two)[:mounted]:
        app.mount("/game", ws)
    with pytest.raises(ConfigurationError, match="two servers at '/game'") as raised:
        async with app.listening():
            pass
    assert str(one) in str(raised.value)
    assert str(two) in str(raised.value)


@on_each_loop
async def test_one_server_in_two_running_apps_is_an_error_that_names_both() -> None:
    one, two, ws = App(), App(), named("it")
    one.mount("/ws", ws)
    two.mount("/elsewhere", ws)
    async with one.listening() as server:
        with pytest.raises(ConfigurationError, match=r"runs in .* already") as raised:
            async with two.listening():
                pass
        assert str(ws) in str(raised.value)
        assert str(one) in str(raised.value)
        assert str(two) in str(raised.value)
        assert await greeting(server, "/ws") == "it"
    async with two.listening() as server:
        assert await greeting(server, "/elsewhere") == "it"


@pytest.mark.parametrize("mounted", [True, False])
@on_each_loop
async def test_an_app_that_runs_already_is_not_run_again(mounted: bool) -> None:
    app, ws = App(), named("it")
    if mounted:
        app.mount("/ws", ws)
    async with app.listening() as server:
        with pytest.raises(ConfigurationError, match="already"):
            async with app.listening():
                pass
        assert await greeting(server, ws.path) == "it"


@on_each_loop
async def test_an_app_may_run_again_with_the_same_servers() -> None:
    app, never_mounted = App(), named("never mounted")
    app.mount("/mounted", named("mounted"))
    for _ in range(3):
        async with app.listening() as server:
            assert await greeting(server, never_mounted.path) == "never mounted"
            assert await greeting(server, "/mounted") == "mounted"


def test_an_app_may_run_again_on_another_loop() -> None:
    app, ws = App(), named("it")

    async def main() -> None:
        async with app.listening() as server:
            assert await greeting(server, ws.path) == "it"

    for _ in range(2):
        with asyncio.Runner() as runner:
            runner.run(main())


@on_each_loop
async def test_a_server_that_was_never_mounted_stays_with_the_first_app_that_runs() -> None:
    ws, app = named("it"), App()
    for _ in range(2):
        async with app.listening() as server:
            assert await greeting(server, ws.path) == "it"
    async with App().listening() as server:
        with pytest.raises(InvalidStatus, match="404"):
            await greeting(server, ws.path)


@on_each_loop
async def test_servers_that_nobody_holds_any_more_do_not_conflict() -> None:
    for _ in range(5):
        leftover = WebSocketServer()
        leftover.on_connect(lambda conn, leftover=leftover: leftover.broadcast("a cycle through its handler"))
    del leftover
    ws = named("it")
    gc.disable()
    try:
        async with App().listening() as server:
            assert await greeting(server, ws.path) == "it"
    finally:
        gc.enable()


@on_each_loop
async def test_a_start_that_failed_leaves_nothing_behind() -> None:
    app = App()
    async with App().listening() as other:
        ws = named("it")
        app.mount("/ws", ws)
        with pytest.raises(ListenError):
            async with app.listening(port=other.port):
                pass
    async with app.listening() as server:
        assert await greeting(server, ws.path) == "it"


@pytest.mark.filterwarnings("ignore:an event loop was closed with sockets of crest's in use:ResourceWarning")
@pytest.mark.parametrize("by", ["listening", "serve"])
@pytest.mark.parametrize("again", ["the app", "another app with its server"])
def test_an_app_whose_loop_was_closed_under_it_may_run_again(loop_factory: LoopFactory, by: str, again: str) -> None:
    """At the same port, too. What is left of the time before does no harm to it."""
    app, ws, other = Watched(), named("it"), App()
    app.mount("/ws", ws)
    other.mount("/ws", ws)
    loop = loop_factory()
    left: list[Any] = [app.listening() if by == "listening" else loop.create_task(app.serve("127.0.0.1", 0))]
    if by == "listening":
        loop.run_until_complete(left[0].__aenter__())
    (server,) = loop.run_until_complete(app.bound.reach(1))
    port = server.port
    loop.close()

    async def main() -> None:
        async with (app if again == "the app" else other).listening(port=port) as server:
            left.clear()
            gc.collect()
            assert await greeting(server, "/ws") == "it"
            with pytest.raises(ConfigurationError, match="already"):
                async with app.listening():
                    pass

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        asyncio.set_event_loop(None)
        runner.get_loop().set_exception_handler(lambda *_: None)
        runner.run(main())


# ---- serve, listening ------------------------------------------------------------------------------------------------


class Watched(App):
    """Says, by `bound`, that it listens, and where."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = Events()

    @asynccontextmanager
    async def listening(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async with super().listening(*args, **options) as server:
            self.bound.add(server)
            yield server


@on_each_loop
async def test_serve_runs_until_it_is_cancelled_and_then_shuts_down_gracefully() -> None:
    app, ws, events = Watched(), WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    task = asyncio.create_task(app.serve("127.0.0.1", 0))
    (server,) = await app.bound.reach(1)
    async with connect(server) as client:
        task.cancel()
        await client.wait_closed()
        assert client.close_code == 1012
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events.seen == [1012]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@on_each_loop
async def test_serve_ends_at_a_signal(number: signal.Signals) -> None:
    app, ws = Watched(), WebSocketServer()
    task = asyncio.create_task(app.serve("127.0.0.1", 0))
    (server,) = await app.bound.reach(1)
    async with connect(server, ws.path) as client:
        signal.raise_signal(number)
        await client.wait_closed()
        assert client.close_code == 1012
    async with asyncio.timeout(GUARD):
        assert await task is None


@on_each_loop
async def test_serve_puts_the_signal_handlers_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    app = Watched()
    task = asyncio.create_task(app.serve("127.0.0.1", 0))
    await app.bound.reach(1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@on_each_loop
async def test_serve_raises_when_it_can_not_listen() -> None:
    async with App().listening() as server:
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{server.port}: the port is in use"):
            await App().serve("127.0.0.1", server.port)


@on_each_loop
async def test_two_apps_may_run_in_one_loop() -> None:
    one, two = App(), App()
    one.mount("/ws", named("one"))
    two.mount("/ws", named("two"))
    async with one.listening() as first, two.listening() as second:
        assert first.port != second.port
        assert await greeting(first, "/ws") == "one"
        assert await greeting(second, "/ws") == "two"


@on_each_loop
async def test_an_exception_within_the_context_shuts_down_and_passes_through() -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code))
    clients = []
    with pytest.raises(KeyError):
        async with App().listening() as server:
            clients.append(await connect(server))
            await opened.reach(1)
            raise KeyError
    assert closed.seen == [1012]
    await clients[0].wait_closed()
    assert clients[0].close_code == 1012
