"""docs/deployment.md: where its apps listen. Its configurations of proxies are test_proxies.py's."""

import asyncio
import stat
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, Server, connect
from support.snippets import Checks, Names, Scenario, Stage, get

import crest

check = Checks()


def listening(stage: Stage, names: Names, scenario: Scenario, **changed: Any) -> None:
    """Serve the snippet's app where the snippet says, with some changes, in its folder."""
    stage.monkeypatch.chdir(stage.folder)

    async def main() -> None:
        async with asyncio.timeout(3 * GUARD), names["app"].listening(**{**stage.listens, **changed}) as server:
            await scenario(server)

    asyncio.run(main())


@check("deployment#tls")
def with_tls(stage: Stage) -> None:
    names, pair = stage.execute(), Pair(stage.folder)
    assert stage.runs == [(names["app"], "0.0.0.0", 8443)]
    assert stage.listens == {"certfile": pair.certfile.name, "keyfile": pair.keyfile.name}

    async def scenario(server: Server) -> None:
        async with connect(server, ssl=pair.client()) as one, connect(server, ssl=pair.client()) as other:
            await one.send("Hello")
            assert await one.recv() == await other.recv() == "Hello"

    listening(stage, names, scenario)


@check("deployment#unix-sockets")
def on_a_unix_socket(stage: Stage) -> None:
    names = stage.fragment()
    assert stage.listens == {"unix": "/run/chat/chat.sock", "unix_mode": 0o660}

    async def scenario(server: Server) -> None:
        assert stat.S_IMODE((stage.folder / "s").stat().st_mode) == 0o660

    listening(stage, names, scenario, unix="s")


@check("deployment#health-checks")
def health_check(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        assert (await get(server, "/health")).body == b"ok"

    stage.serve(stage.fragment()["app"], scenario)


@check("deployment#several-addresses")
def at_several_addresses(stage: Stage) -> None:
    names, pair = stage.fragment(), Pair(stage.folder)
    plain, secure, unix = stage.listens["listen"]
    assert (plain, secure, unix) == ("http://127.0.0.1:8000", "https://*:8443", "unix:/run/chat/chat.sock")

    async def scenario(server: Any) -> None:
        assert [url.partition(":")[0] for url in server.urls] == ["http", "https", "unix"]
        async with connect(server):
            pass

    assert stage.listens["certfile"] == pair.certfile.name
    listening(stage, names, scenario, listen=["http://127.0.0.1:0", "https://*:0", "unix:s"])


@check("deployment#systemd")
def by_systemd(stage: Stage) -> None:
    names = stage.fragment()
    assert stage.listens == {"listen": "systemd"}
    stage.monkeypatch.delenv("LISTEN_PID", raising=False)

    async def scenario(server: Server) -> None:
        raise AssertionError("there is no systemd here")

    with pytest.raises(crest.ListenError, match="systemd has passed no sockets to this process"):
        listening(stage, names, scenario)


test_snippet = check.test()
