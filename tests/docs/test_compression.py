"""docs/compression.md: its snippets, of which frames say what is compressed, and its table of memory."""

import re

from support.client import TEXT, Server, connect, frame, tcp, upgraded
from support.documents import READ
from support.snippets import Checks, Stage

check = Checks()
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}


@check("compression#switching-it-on")
def switching_it_on(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server):
            pass
        async with connect(server, compression="deflate") as client:
            await client.send("text " * 100)
            assert await client.recv() == "text " * 100

    stage.serve(stage.execute()["app"], scenario)
    told = "permessage-deflate; client_no_context_takeover"
    assert stage.output() == f"compression: None\ncompression: {told}\n"
    assert f"`{told}`" in READ["docs/compression.md"][0]["switching-it-on"]


@check("compression#switching-it-on/2")
def switching_it_on_with_options(stage: Stage) -> None:
    names = stage.execute()

    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            (conn,) = names["ws"].get_connections()
            for size in (511, 512):
                conn.send("x" * size)
            assert [(await client.frame()).rsv1 for _ in range(2)] == [False, True]

    stage.serve(names["app"], scenario)


@check("compression#what-clients-make-of-it")
def what_clients_make_of_it(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with tcp(server) as client:
            answer = await client.upgrade(changed=OFFER)
            assert answer.headers["sec-websocket-extensions"] == "permessage-deflate"

    stage.serve(stage.execute()["app"], scenario)


@check("compression#single-messages")
def single_messages(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            assert [(await client.frame()).rsv1 for _ in range(2)] == [True, False]

    stage.serve(stage.execute()["app"], scenario)


@check("compression#context-takeover")
def context_takeover(stage: Stage) -> None:
    """A short message becomes shorter when it comes again."""

    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            sizes = []
            for number in range(2):
                await client.send(frame(TEXT, f'{{"type": "position", "x": {number}, "y": 22}}'))
                sizes.append(len((await client.frame()).payload))
            assert sizes[1] < sizes[0] / 2

    stage.serve(stage.execute()["app"], scenario)


@check("compression#secrets")
def secrets_are_not_compressed(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with upgraded(server, changed=OFFER) as client:
            message = await client.frame()
            assert (message.rsv1, len(message.payload)) == (False, 43)

    stage.serve(stage.execute()["app"], scenario)


def test_the_memory_of_compression() -> None:
    """By the formulas beside the table; tests/io/out/test_deflation.py measures."""
    memory = READ["docs/compression.md"][0]["memory"]
    levels = [int(level) for level in re.findall(r"`memory_level=(\d)`", memory.partition("|---")[0])]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", memory, re.MULTILINE)
    assert [int(bits) for bits, _ in rows] == list(range(9, 16))
    for bits, cells in rows:
        deflating = [(4 << int(bits)) + (512 << level) + 6080 for level in levels]
        assert [int(cell.replace(",", "")) for cell in cells.split(" | ")] == [*deflating, (1 << int(bits)) + 7288]


test_snippet = check.test()
