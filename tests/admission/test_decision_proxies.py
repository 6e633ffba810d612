"""crest.admission.decision: clients behind proxies."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.client import request, tcp
from support.decision import answer_to
from support.events import Events, on_each_loop

from crest import App, WebSocketServer


async def clients(app: App, headers: dict[str, str]) -> list[Any]:
    """Who the client is, to a page, to on_upgrade and to the connection."""
    ws, seen = WebSocketServer(), Events()
    ws.on_upgrade(lambda request: seen.add([request.client]))
    ws.on_connect(lambda conn: seen.add([conn.remote_address, conn.request.client]))
    app.mount("/ws", ws)
    app.get("/")(lambda request: seen.add([request.client]) or "page")
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/", {"Host": "test", **headers}))
        await client.answer()
        await client.upgrade(changed=headers)
        await client.round_trip()
        return [None if each == client.address else each for (*found,) in seen.seen for each in found]


@on_each_loop
async def test_a_trusted_proxy_says_who_the_client_is() -> None:
    app = App(trusted_proxies=["127.0.0.0/8"])
    assert await clients(app, {"X-Forwarded-For": "198.51.100.1, 192.0.2.7:4711"}) == [("192.0.2.7", 4711)] * 4


@on_each_loop
async def test_or_by_forwarded() -> None:
    app = App(trusted_proxies=["127.0.0.1"], forwarded_header="Forwarded")
    headers = {"Forwarded": 'for="[2001:db8::1]"', "X-Forwarded-For": "192.0.2.7"}
    assert await clients(app, headers) == [("2001:db8::1", 0)] * 4


@pytest.mark.parametrize("app", [App, lambda: App(trusted_proxies=["192.0.2.1"])])
@on_each_loop
async def test_nobody_else_is_believed(app: Callable[[], App]) -> None:
    assert await clients(app(), {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"}) == [None] * 4


@on_each_loop
async def test_a_malformed_forwarded_is_400() -> None:
    ws = WebSocketServer()
    app = App(trusted_proxies=["127.0.0.1"], forwarded_header="Forwarded")
    async with app.listening() as server:
        answer = await answer_to(server, {"Forwarded": 'for="'}, ws.path)
    assert (answer.status, answer.body) == (400, b"Forwarded is malformed: 'for=\"'\n")


@on_each_loop
async def test_the_log_names_the_client_behind_the_proxy(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crest.admission.refusals.PAUSE", 1000.0)
    ws = WebSocketServer()
    with caplog.at_level(logging.INFO, "crest"):
        async with App(trusted_proxies=["127.0.0.1"]).listening() as server:
            headers: dict[str, str | None] = {"X-Forwarded-For": "192.0.2.7", "Origin": "null"}
            for _ in range(5):
                assert (await answer_to(server, headers, ws.path)).status == 403
    lines = [line for line in caplog.messages if "Refused" in line]
    assert lines[0].startswith("Refused a request of ('192.0.2.7', 0): 403, the origin 'null'")
    assert len(lines) == 2 and lines[1] == "Refused 4 more like the last one (origin)"
