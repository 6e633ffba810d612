"""docs/reference.md: its snippets."""

import json
import re

from support.client import Server, connect, upgraded
from support.snippets import Checks, Stage, get, prelude, refusal
from websockets.typing import Subprotocol

from crest import App

check = Checks()


@check("reference#appget")
def app_get(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        answer = await get(server, "/robots.txt")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body == b"User-agent: *\nDisallow: /\n"

    stage.serve(stage.fragment()["app"], scenario)


@check("reference#appserve")
def app_serve(stage: Stage) -> None:
    served = []

    async def serve(app: App, host: str, port: int) -> None:
        async with app.listening(host, 0) as server, connect(server) as client:
            assert await client.recv() == "tick"
            served.append((host, port))

    stage.monkeypatch.setattr(App, "serve", serve)
    stage.fragment()
    assert served == [("127.0.0.1", 8000)]


@check("reference#applistening")
def app_listening(stage: Stage) -> None:
    stage.fragment()
    assert re.fullmatch(r"listening on port [1-9]\d*\n", stage.output())


@check("reference#websocketserver")
def subprotocols(stage: Stage) -> None:
    names = stage.execute(prelude())
    names["app"].mount("/spoken", names["ws"])

    async def scenario(server: Server) -> None:
        offered = [Subprotocol("chat.v1"), Subprotocol("chat.v2")]
        async with connect(server, "/spoken", subprotocols=offered) as client:
            assert await client.recv() == "We speak chat.v2."
        async with connect(server, "/spoken") as client:
            assert await client.recv() == "We speak None."

    stage.serve(names["app"], scenario)


@check("reference#totals")
def totals(stage: Stage) -> None:
    names = stage.execute()

    async def scenario(server: Server) -> None:
        async with connect(server, "/ws") as client:
            await client.send("x")
            answer = await get(server, "/totals")
            assert json.loads(answer.body)["open"] == 1
        assert names["ws"].totals().opened == 1

    stage.serve(names["app"], scenario)


@check("reference#types")
def types(stage: Stage) -> None:
    names = stage.execute(prelude())
    names["app"].mount("/typed", names["ws"])

    async def scenario(server: Server) -> None:
        async with connect(server, "/typed?name=Alice") as client:
            assert await client.recv() == "Hello, Alice!"
        assert (await refusal(server, path="/typed"))[0] == 401

    stage.serve(names["app"], scenario)


@check("reference#response")
def response(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        answer = await get(server, "/old")
        assert (answer.status, answer.headers["location"]) == (301, "/new")

    stage.serve(stage.fragment()["app"], scenario)


@check("reference#closecode")
def close_code(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server):
            pass
        async with upgraded(server):
            pass

    stage.serve(stage.fragment()["app"], scenario)
    assert re.fullmatch(r"lost \S+\n", stage.output())


test_snippet = check.test()
