"""What asks whether a server is well: HAProxy, by HTTP/1.0 without Host, and other ways of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.client import GUARD
from support.events import Events, on_each_loop
from support.foreign import haproxy, needs_haproxy

from crest import App, Request, Response

CONFIGURATION = """
global
    stats socket {folder}/stats
defaults
    mode http
    timeout check 60s
    timeout connect 60s
    timeout client 60s
    timeout server 60s
backend chat
    {check}
    server crest 127.0.0.1:{port} check inter 50ms
"""

SENDING_HOST = "option httpchk\n    http-check send meth {method} uri /health ver HTTP/1.1 hdr Host chat.example"


async def judgement(folder: Path) -> str:
    """What HAProxy has found out about the server, once it has: "L7OK 200"."""
    async with asyncio.timeout(GUARD):
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(folder / "stats")
            except OSError:  # it starts
                await asyncio.sleep(0)
                continue
            writer.write(b"show stat chat 4 -1\n")
            names, values = (line.split(",") for line in (await reader.read()).decode().splitlines()[:2])
            writer.close()
            found = dict(zip(names, values, strict=True))
            if found["check_status"].startswith("L"):
                return f"{found['check_status']} {found['check_code']}"


@needs_haproxy
@pytest.mark.parametrize(
    ("check", "hosts", "expected"),
    [
        ("option httpchk GET /health", None, "L7OK 200"),
        ("option httpchk HEAD /health", None, "L7OK 200"),
        ("option httpchk GET /sick", None, "L7STS 503"),
        ("option httpchk GET /health", ["chat.example"], "L7STS 421"),
        (SENDING_HOST.format(method="GET"), ["chat.example"], "L7OK 200"),
        (SENDING_HOST.format(method="HEAD"), ["chat.example"], "L7OK 200"),
        ("option tcp-check", None, "L4OK "),
    ],
)
@on_each_loop
async def test_haproxy_is_told(check: str, hosts: list[str] | None, expected: str, tmp_path: Path) -> None:
    app, asked = App(hosts=hosts), Events()

    @app.get("/health")
    def health(request: Request) -> str:
        asked.add(request.headers.get("Host", "none"))
        return "ok"

    app.get("/sick")(lambda request: Response("sick", 503))
    async with app.listening() as server:
        configuration = CONFIGURATION.format(folder=tmp_path, check=check, port=server.port)
        with haproxy(configuration, tmp_path):
            assert await judgement(tmp_path) == expected
            if expected == "L7OK 200":
                seen = await asked.reach(3)  # and again: nothing is left behind that would spoil the next
                assert set(seen) == {"none" if hosts is None else "chat.example"}
