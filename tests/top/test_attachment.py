"""crest.attachment: which app serves the servers that were never mounted. Modules of a program are made up here."""

import asyncio
import gc
import re
from types import ModuleType
from typing import Any
from weakref import ref

import pytest
from support.client import connect, handshake, tcp
from support.events import on_each_loop

import crest
from crest import App, ConfigurationError, WebSocketServer, attachment

COLLECT = attachment._collect
"""As it is; tests have another one, see conftest.py."""

PROGRAM = """
from crest import App, WebSocketServer
app = App()
ws = WebSocketServer({path!r})
ws.on_connect(lambda conn: conn.send(__name__))
"""


def module(name: str, source: str = "", **names: Any) -> Any:
    """A module of this name."""
    made = ModuleType(name)
    vars(made).update({name: getattr(crest, name) for name in ("App", "WebSocketServer")}, **names)
    exec(source, vars(made))
    return made


def program(name: str, path: str = "/ws") -> Any:
    """A module with an app and a server, which sends the module's name."""
    return module(name, PROGRAM.format(path=path))


async def greeting(server: Any, path: str = "/ws") -> str:
    async with connect(server, path) as client:
        return str(await client.recv())


async def status(server: Any, path: str = "/ws") -> int:
    async with tcp(server) as client:
        await client.send(handshake(path))
        return (await client.answer()).status


# ---- The module ------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_server_belongs_to_the_app_of_its_module_whichever_starts_first() -> None:
    public, operators = program("public"), module("operators", "app = App()")
    async with operators.app.listening() as server:
        assert await status(server) == 404
        async with public.app.listening() as other:
            assert await greeting(other) == "public"


@on_each_loop
async def test_two_modules_with_an_app_and_a_server_each_do_not_collide() -> None:
    one, two = program("one"), program("two")
    async with one.app.listening() as first, two.app.listening() as second:
        assert [await greeting(first), await greeting(second)] == ["one", "two"]


@on_each_loop
async def test_a_server_of_a_module_without_an_app_belongs_to_the_only_one() -> None:
    servers = module("servers", "ws = WebSocketServer(); ws.on_connect(lambda conn: conn.send('it'))")
    main = module("__main__", "app = App()")
    assert servers.ws
    async with main.app.listening() as server:
        assert await greeting(server) == "it"


@on_each_loop
async def test_a_server_of_a_module_without_an_app_is_an_error_where_there_are_several() -> None:
    servers, one, two = module("servers", "ws = WebSocketServer()"), program("one"), module("two", "app = App()")
    for starting in (two, one):
        with pytest.raises(ConfigurationError, match="was never mounted, and may belong to") as raised:
            async with starting.app.listening():
                pass
        for named in (servers.ws, one.app, two.app, "app.mount(path, server)"):
            assert str(named) in str(raised.value)
    two.app.mount("/ws", servers.ws)
    async with one.app.listening() as server, two.app.listening() as other:
        assert await greeting(server) == "one"
        assert await status(other) == 101


@on_each_loop
async def test_several_apps_in_its_module_are_an_error_too() -> None:
    main = module("main", "public, operators, ws = App(), App(), WebSocketServer()")
    for starting in (main.public, main.operators):
        with pytest.raises(ConfigurationError, match=re.escape(f"{main.public!r} or {main.operators!r}")):
            async with starting.listening():
                pass
    main.public.mount("/ws", main.ws)
    async with main.operators.listening() as server:
        assert await status(server) == 404


@on_each_loop
async def test_it_is_an_error_also_if_the_other_app_runs_already() -> None:
    main = module("main", "public, operators = App(), App()")
    async with main.operators.listening():
        exec("ws = WebSocketServer()", vars(main))
        with pytest.raises(ConfigurationError, match="may belong to"):
            async with main.public.listening():
                pass


@on_each_loop
async def test_an_app_that_has_ended_does_not_count() -> None:
    main = module("main", "before, app = App(), App()")
    async with main.before.listening():
        pass
    exec("ws = WebSocketServer()", vars(main))
    async with main.app.listening() as server:
        assert await status(server) == 101


@on_each_loop
async def test_a_server_is_not_another_modules_although_its_own_app_has_ended() -> None:
    public, operators = program("public"), module("operators", "app = App()")
    async with public.app.listening():
        pass
    exec("late = WebSocketServer('/late')", vars(public))
    async with operators.app.listening() as server:
        assert await status(server, "/late") == 404
    async with public.app.listening() as server:
        assert await status(server, "/late") == 101


# ---- Where something is made -----------------------------------------------------------------------------------------


class OfAnotherModule(WebSocketServer):
    """A library's: its constructor is not where a server is made."""

    def __init__(self, greets: str, **options: Any) -> None:
        super().__init__(**options)
        self.on_connect(lambda conn: conn.send(greets))


class AppOfAnotherModule(App):
    def __init__(self) -> None:
        super().__init__(open_timeout=5.0)


@on_each_loop
async def test_the_constructors_of_subclasses_are_not_where_they_are_made() -> None:
    source = "app = Base(); ws = Server('it')"
    one = module("one", source, Base=AppOfAnotherModule, Server=OfAnotherModule)
    two = module("two", "app = App()")
    async with two.app.listening() as server, one.app.listening() as other:
        assert await status(server) == 404
        assert await greeting(other) == "it"
    assert re.search(r"made at <string>:1>", repr(one.ws)) and re.search(r"made at <string>:1>", repr(one.app))


@on_each_loop
async def test_a_function_that_makes_both_may_return_the_app_alone() -> None:
    source = """
def application():
    app = App() if {app_first} else None
    ws = WebSocketServer()
    @ws.on_connect
    def connected(conn):
        conn.send("it")
    return app or App()
app = application()
"""
    for app_first in (True, False):
        made = module("made", source.format(app_first=app_first))
        gc.collect()
        async with made.app.listening() as server:
            assert await greeting(server) == "it"
        del made
        gc.collect()


@on_each_loop
async def test_a_module_without_a_name_is_one() -> None:
    names = {"App": App, "WebSocketServer": WebSocketServer}
    exec("app, ws = App(), WebSocketServer()", names)
    app: Any = names["app"]
    async with app.listening() as server:
        assert await status(server) == 101


# ---- What is gone ----------------------------------------------------------------------------------------------------


@on_each_loop
async def test_an_app_that_is_gone_does_not_count() -> None:
    main = module("main", "app, cycle, ws = App(), App(), WebSocketServer()")
    main.cycle.itself = main.cycle
    del main.cycle
    async with main.app.listening() as server:
        assert await status(server) == 101


@on_each_loop
async def test_a_server_that_only_its_own_handlers_know_is_served_by_an_app_that_is_made_later() -> None:
    source = """
def forgotten():
    ws = WebSocketServer("/leftover")
    ws.on_connect(lambda conn: ws.broadcast("a cycle through its handler"))
forgotten()
"""
    gc.disable()
    try:
        servers, main = module("servers", source), module("main", "app = App()")
        gc.collect()
        async with main.app.listening() as server:
            assert await status(server, "/leftover") == 101
    finally:
        gc.enable()
    assert servers


@on_each_loop
async def test_a_server_that_was_made_too_late_and_is_gone_does_not_count() -> None:
    async with program("first").app.listening():
        servers = module(
            "servers",
            """
def forgotten():
    ws = WebSocketServer("/leftover")
    ws.on_connect(lambda conn: ws.broadcast("a cycle through its handler"))
forgotten()
""",
        )
    main = module("main", "app = App()")
    async with main.app.listening() as server:
        assert await status(server, "/leftover") == 404
    assert servers


@on_each_loop
async def test_of_servers_at_one_path_that_only_the_app_keeps_the_last_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment, "_collect", COLLECT)
    main = module("main", "app = App()\nfor i in range(3): ws = WebSocketServer()")
    gc.freeze()  # as App.run does
    try:
        async with main.app.listening() as server:
            assert await status(server) == 101
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_nothing_is_kept_alive_by_being_known() -> None:
    made = ref(program("made").app), ref(program("made").ws)
    gc.collect()
    assert [each() for each in made] == [None, None]


@on_each_loop
async def test_equal_is_not_the_same() -> None:
    class Equal(WebSocketServer):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    made = module("made", "app = App(); one = Equal('/one'); two = Equal('/two')", Equal=Equal)
    async with made.app.listening() as server:
        assert [await status(server, path) for path in ("/one", "/two", "/three")] == [101, 101, 404]


# ---- An app that runs ------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_running_app_serves_what_is_mounted_from_then_on() -> None:
    main = program("main")
    async with main.app.listening() as server:
        late = WebSocketServer()
        late.on_connect(lambda conn: conn.send("late"))
        assert await status(server, "/late") == 404
        main.app.mount("/late", late)
        main.app.mount("/later", late)
        assert [await greeting(server, path) for path in ("/ws", "/late", "/later")] == ["main", "late", "late"]
        async with connect(server, "/late") as one, connect(server, "/later") as two:
            await one.recv(), await two.recv()
            late.broadcast("all")
            assert [await one.recv(), await two.recv()] == ["all", "all"]
            assert late.connection_count() == 2
    assert late.connection_count() == 0
    async with main.app.listening() as server:
        assert await greeting(server, "/late") == "late"
    other = module("other", "app = App()")
    other.app.mount("/ws", late)
    async with other.app.listening() as server:
        assert await greeting(server) == "late"


@on_each_loop
async def test_what_a_running_app_can_not_mount_is_an_error_and_changes_nothing() -> None:
    one, two = program("one"), program("two")
    async with one.app.listening() as server, two.app.listening():
        late = WebSocketServer("/late")
        with pytest.raises(ConfigurationError, match="two servers at '/ws'"):
            one.app.mount("/ws", late)
        with pytest.raises(ConfigurationError, match=r"runs in .* already"):
            one.app.mount("/two", two.ws)
        assert await greeting(server) == "one"
        assert await status(server, "/two") == 404
        one.app.mount("/ws", one.ws)
        assert await greeting(server) == "one"
    async with one.app.listening() as server:
        assert [await status(server, path) for path in ("/two", "/late")] == [404, 101]


@on_each_loop
async def test_a_running_app_is_not_mounted_at_from_another_thread() -> None:
    main = program("main")
    async with main.app.listening() as server:
        late = WebSocketServer()
        with pytest.raises(ConfigurationError, match="runs in another thread"):
            await asyncio.to_thread(main.app.mount, "/late", late)
        assert await status(server, "/late") == 404


@on_each_loop
async def test_an_app_that_is_shutting_down_mounts_nothing_more() -> None:
    main = program("main")
    errors: list[ConfigurationError] = []

    @main.ws.on_close
    def closed(conn: Any, code: int, reason: str) -> None:
        with pytest.raises(ConfigurationError, match="is shutting down") as raised:
            main.app.mount("/late", WebSocketServer())
        errors.append(raised.value)

    async with main.app.listening() as server:
        client = await connect(server)
        await client.recv()
    assert len(errors) == 1
    await client.close()
