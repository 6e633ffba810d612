"""docs/scaling.md: its programs, with workers."""

import sys
from contextlib import ExitStack

import pytest
from support.client import GUARD, Server, connect
from support.snippets import Checks, Stage
from support.workers import running
from websockets.sync import client

from crest import Gap, WebSocketConnection

check = Checks()


@check("scaling#workers")
def four_workers(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert stage.runs == [(app, "0.0.0.0", 8000)] and stage.listens == {"workers": 4}
    if sys.platform == "win32":
        pytest.skip("there are no workers on Windows")
    code, places = stage.snippet.code, ('"0.0.0.0", 8000', '"127.0.0.1", 0')
    assert places[0] in code
    with running(code.replace(*places)) as program:
        program.until("4 workers serve")
        url = f"ws://127.0.0.1:{program.port}/ws"
        with ExitStack() as stack:
            peers = [stack.enter_context(client.connect(url, open_timeout=GUARD)) for _ in range(8)]
            for number, peer in enumerate(peers):
                peer.send(f"from {number}")
                assert [each.recv(timeout=GUARD) for each in peers] == [f"from {number}"] * 8


@check("scaling#who-is-there")
def who_is_there(stage: Stage) -> None:
    names = stage.fragment()
    users = iter(["ann", None, "bob"])

    def connected(conn: WebSocketConnection) -> None:
        conn.user = next(users)
        conn.join("lobby")

    names["ws"].on_connect(connected)

    async def scenario(server: Server) -> None:
        async with connect(server), connect(server), connect(server) as last:
            await last.send("who is in lobby")
            assert await last.recv() == "3 are here, and in lobby: ann, bob, somebody"

    stage.serve(names["app"], scenario)


@check("scaling#lost-messages")
def lost_messages(stage: Stage) -> None:
    names = stage.fragment()

    async def scenario(server: Server) -> None:
        async with connect(server) as one, connect(server) as other:
            names["lost"](Gap(lost=3, cause="slow", since=1.0, until=2.0))
            assert await one.recv() == await other.recv() == '{"type": "reload"}'

    stage.serve(names["app"], scenario)


test_snippet = check.test()
