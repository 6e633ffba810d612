"""docs/shutdown.md: its snippets, and its defaults."""

import ast
import asyncio
import inspect
import re
from typing import Any

from support.browser import browsing, require_browser
from support.client import Server, connect
from support.documents import READ
from support.events import Events
from support.snippets import Checks, Stage, add_page, close_of, localhost, prelude

import crest

check = Checks()


@check("shutdown#shutdown")
def shutting_down(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"
            stopping = asyncio.create_task(server.stop())  # type: ignore[attr-defined]
            for client in (one, other):
                code, reason = await close_of(client)
                seconds = re.fullmatch(r"retry-after=(\d+\.\d+)", reason)
                assert code == 1012 and seconds and 5 <= float(seconds[1]) <= 10.1
            await stopping

    stage.serve(app, scenario)


@check("shutdown#what-clients-are-told")
def reading_the_hint(stage: Stage) -> None:
    """Its number is what the browser waits for, whatever the code of the page has in its place otherwise."""
    require_browser()
    names = prelude()
    patience = "const waits = []; const after = setTimeout; setTimeout = (f, ms) => { waits.push(ms); after(f, 1); };"
    add_page(names["app"], patience + stage.snippet.code)
    farewells = [(1012, "retry-after=7.43"), (1001, "retry-after=60; more=1"), (1012, ""), (1001, "retry-before=60")]
    opened = Events()

    def connected(conn: Any) -> None:
        opened.add(conn)
        if farewells:
            conn.close(*farewells.pop(0))

    names["ws"].on_connect(connected)

    async def scenario(server: Server) -> None:
        async with browsing(localhost(server)) as browser:
            page = await browser.open("http://localhost:8000/client")
            await opened.reach(5)
            hinted, longer, *own = await page.evaluate("waits")
            assert (hinted, longer) == (7430, 60000)
            assert len(own) == 2 and all(250 <= each <= 500 for each in own)
            assert page.errors == []

    stage.serve(names["app"], scenario)


@check("shutdown#clients-that-do-not-know-1012")
def codes_of_the_rfc(stage: Stage) -> None:
    app = stage.execute()["app"]

    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            stopping = asyncio.create_task(server.stop())  # type: ignore[attr-defined]
            code, reason = await close_of(client)
            assert code == 1001 and reason.startswith("retry-after=")
            await stopping

    stage.serve(app, scenario)


def test_the_page_about_shutdown_has_the_defaults() -> None:
    sections, _ = READ["docs/shutdown.md"]
    rows = re.findall(r"^\| `(\w+)\((\w+)\)` \| `?(\w+)", sections["limits-and-defaults"], re.MULTILINE)
    assert len(rows) == 5
    for cls, name, shown in rows:
        assert inspect.signature(getattr(crest, cls)).parameters[name].default == ast.literal_eval(shown)


test_snippet = check.test()
