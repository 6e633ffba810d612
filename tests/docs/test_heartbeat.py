"""docs/heartbeat.md: its time-outs, and a handler that blocks."""

import json

from support.client import PONG, Server, frame, upgraded
from support.snippets import Checks, Stage, get

check = Checks()


@check("heartbeat#time-outs")
def time_outs(stage: Stage) -> None:
    names = stage.execute()

    async def scenario(server: Server) -> None:
        async with upgraded(server) as client:
            (conn,) = names["ws"].get_connections()
            assert (await get(server, "/latency")).body == b'{"%s":null}' % conn.get_id().encode()
            conn.ping()
            await client.send(frame(PONG, (await client.frame()).payload))
            await client.round_trip()
            answer = json.loads((await get(server, "/latency")).body)
            assert 0 <= answer[conn.get_id()] < 60

    stage.serve(names["app"], scenario)


@check("heartbeat#handlers-that-block")
def blocking(stage: Stage) -> None:
    stage.answers(stage.fragment()["app"], b"abcd", b"ac")


test_snippet = check.test()
