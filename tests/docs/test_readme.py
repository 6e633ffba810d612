"""README.md: the server in ten lines is one."""

from support.client import Server, connect
from support.snippets import Checks, Stage

check = Checks()


@check("README#a-server-in-ten-lines")
def ten_lines(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)]
    assert len(stage.snippet.code.splitlines()) == 10

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"

    stage.serve(app, scenario)


@check("README#a-server-in-ten-lines/2")
def some(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server):
            assert await one.recv() == "somebody has come"

    stage.serve(stage.fragment()["app"], scenario)


test_snippet = check.test()
