"""crest.gap and crest.server: an application hears of broadcasts of other workers that were lost."""

import asyncio

import pytest
from support.events import Events, on_each_loop

from crest import Gap, WebSocketServer

GAP = Gap(lost=3, cause="slow", since=1.0, until=2.5)


@on_each_loop
async def test_a_plain_handler_and_then_an_async_one() -> None:
    ws, events = WebSocketServer(), Events()
    ws._heard_of_gap(GAP)  # nobody wants to know

    @ws.on_gap
    def plain(gap: Gap) -> None:
        events.add(gap)

    ws._heard_of_gap(GAP)
    assert await events.reach(1) == [GAP]

    @ws.on_gap
    async def later(gap: Gap) -> None:
        await asyncio.sleep(0)
        events.add(gap.lost)

    ws._heard_of_gap(GAP)
    ws._heard_of_gap(Gap(None, "exchange", 1.0, 2.0))
    assert (await events.reach(3))[1:] == [3, None]


@on_each_loop
async def test_what_a_handler_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ws, events = WebSocketServer(), Events()

    @ws.on_gap
    def bad(gap: Gap) -> None:
        events.add(gap)
        raise RuntimeError("no database")

    ws._heard_of_gap(GAP)
    await events.reach(1)
    while ws._tellings:
        await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.getMessage() == "on_gap failed" and record.exc_info and "no database" in str(record.exc_info[1])
    caplog.clear()


def test_what_can_not_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="on_gap"):
        WebSocketServer().on_gap(1)  # type: ignore[call-overload, type-var]
