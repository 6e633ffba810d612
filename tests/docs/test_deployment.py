"""docs/deployment.md: where its apps listen, and its configurations of nginx and HAProxy."""

import asyncio
import re
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, Server, connect, request, tcp
from support.documents import FENCES
from support.foreign import free_socket, haproxy_on, needs_haproxy, needs_nginx, nginx
from support.snippets import Checks, Names, Scenario, Stage, get

import crest
from crest import App, WebSocketServer

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


def nginx_configuration(folder: Path, front: str, pair: Pair) -> str:
    """The documents' configuration of nginx, with files of a test's folder and another address."""
    (fence,) = [each for each in FENCES if each.language == "text" and "proxy_pass" in each.code]
    code = fence.code
    for shown, real in (
        ("listen 443 ssl;", f"listen {front} ssl;"),
        ("/etc/ssl/chat/fullchain.pem", str(pair.certfile)),
        ("/etc/ssl/chat/key.pem", str(pair.keyfile)),
        ("unix:/run/chat/chat.sock", f"unix:{folder / 'chat.sock'}"),
    ):
        assert code.count(shown) == 1
        code = code.replace(shown, real)
    return code


@needs_nginx
def test_nginx_takes_its_configuration(pair: Pair, tmp_path: Path) -> None:
    process = nginx(nginx_configuration(tmp_path, f"unix:{tmp_path / 'front.sock'}", pair), tmp_path, "-t")
    _, said = process.communicate(timeout=GUARD)
    assert process.returncode == 0, said
    assert not re.search(r"\[(warn|error|crit|emerg)\]", said), said


@needs_nginx
def test_behind_nginx(pair: Pair, tmp_path: Path) -> None:
    """WebSocket and page; the server's own origin, which is what `Host` says; and the client's address."""
    app, ws = App(trusted_proxies=["unix"]), WebSocketServer()
    app.get("/who")(lambda request: request.client[0] if request.client else "")

    @ws.on_message
    def received(conn: Any, message: str) -> None:
        conn.send(f"{message} from {conn.remote_address[0]}")

    async def main(sock: socket.socket) -> None:
        address, port = sock.getsockname()
        async with app.listening(unix=tmp_path / "chat.sock"):
            process = nginx(nginx_configuration(tmp_path, f"{address}:{port}", pair), tmp_path, sock=sock)
            try:
                front, tls = SimpleNamespace(host=address, port=port), pair.client()
                async with tcp(front, tls=tls) as client:
                    await client.send(request("/who", {"Host": f"{address}:{port}"}))
                    assert (await client.answer()).body == address.encode()
                async with connect(front, ssl=tls, origin=f"https://{address}:{port}") as client:
                    await client.send("Hello")
                    assert await client.recv() == f"Hello from {address}"
            finally:
                process.terminate()
                process.communicate(timeout=GUARD)

    with free_socket() as sock:
        asyncio.run(main(sock))


@needs_haproxy
def test_haproxy_takes_its_configurations(tmp_path: Path) -> None:
    found = [each.code for each in FENCES if each.language == "text" and "server crest" in each.code]
    (lines,) = [each.code for each in FENCES if each.language == "text" and "http-check" in each.code]
    check = re.compile(r"    option httpchk .*\n")
    found += [check.sub(lines, each) for each in found if check.search(each)]
    assert len(found) == 3
    for configuration in found:
        said = haproxy_on("defaults\ntimeout server 1m\ntimeout connect 1m\n" + configuration, tmp_path)
        assert said == "", configuration


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
