"""crest.totals: a server's counts as its application reads them, over real connections."""

import asyncio
from dataclasses import FrozenInstanceError

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from crest import App, Totals, WebSocketConnection, WebSocketServer


def test_a_new_server_has_done_nothing() -> None:
    totals = WebSocketServer("/nothing").totals()
    assert totals == Totals(0, {}, dict.fromkeys(totals.refused, 0), 0, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(FrozenInstanceError):
        totals.sent = 1  # type: ignore[misc]


async def one_visit(app: App) -> None:
    async with app.listening("127.0.0.1", 0) as server:
        address = f"ws://127.0.0.1:{server.port}/ws"
        async with connect(address) as one, connect(address) as two:
            await one.send("hello " * 100)
            assert await one.recv() == await two.recv() == "all: " + "hello " * 100
            assert await one.recv() == "you"
            with pytest.raises(InvalidStatus):
                await connect(address, origin="https://elsewhere.example")  # type: ignore[arg-type]


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_counts_of_a_visit(compression: str | None) -> None:
    app, ws = App(), WebSocketServer[None]("/ws", compression=compression)
    app.mount("/ws", ws)

    @ws.on_message
    def received(conn: WebSocketConnection[None], message: str) -> None:
        ws.broadcast("all: " + message)
        conn.send("you")

    before = ws.totals()
    asyncio.run(one_visit(app))
    now = ws.totals()
    assert (before.opened, now.opened, now.closed) == (0, 2, {1000: 2})
    assert (now.received, now.sent, now.broadcasts, now.deliveries) == (1, 1, 1, 2)
    assert now.refused["origin"] == 1 and sum(now.refused.values()) == 1
    assert (now.received_bytes > 600) == (now.sent_bytes > 1200) == (compression is None)
    assert now.dropped == now.discarded == 0
