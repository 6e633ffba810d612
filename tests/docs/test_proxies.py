"""The configurations of nginx, HAProxy and Caddy in the documents, with the real ones in front of a real server."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, connect, request, tcp
from support.documents import FENCES
from support.foreign import (
    caddy,
    free_socket,
    haproxy,
    haproxy_on,
    needs_caddy,
    needs_haproxy,
    needs_nginx,
    nginx,
)
from support.workers import running

from crest import App, WebSocketServer

CLIENT = "127.0.0.7" if sys.platform == "linux" else "127.0.0.1"
"""The client's address; not that of the proxy, where there are several."""

BEHIND = pytest.mark.parametrize(
    "name",
    [
        pytest.param("nginx", marks=needs_nginx),
        pytest.param("haproxy", marks=needs_haproxy),
        pytest.param("caddy", marks=needs_caddy),
    ],
)


def configuration(having: str, *changes: tuple[str, str]) -> str:
    """The documents' one that has these words, with files of a test's folder and other addresses."""
    (fence,) = [each for each in FENCES if each.language == "text" and having in each.code]
    code = fence.code
    for shown, real in changes:
        assert code.count(shown) == 1, shown
        code = code.replace(shown, real)
    return code


def nginx_configuration(folder: Path, front: str, pair: Pair) -> str:
    return configuration(
        "proxy_pass",
        ("listen 443 ssl;", f"listen {front} ssl;"),
        ("/etc/ssl/chat/fullchain.pem", str(pair.certfile)),
        ("/etc/ssl/chat/key.pem", str(pair.keyfile)),
        ("unix:/run/chat/chat.sock", f"unix:{folder / 'chat.sock'}"),
    )


@contextmanager
def nginx_front(folder: Path, pair: Pair, port: int) -> Iterator[int]:
    with free_socket() as sock:
        front = sock.getsockname()[1]
        process = nginx(nginx_configuration(folder, f"127.0.0.1:{front}", pair), folder, sock=sock)
        try:
            yield front
        finally:
            process.terminate()
            process.communicate(timeout=GUARD)


@contextmanager
def haproxy_front(folder: Path, pair: Pair, port: int) -> Iterator[int]:
    both = folder / "both.pem"
    both.write_text(pair.certfile.read_text() + pair.keyfile.read_text())
    with free_socket() as sock:
        changed = configuration(
            "option forwardfor",
            ("bind :443 ssl", f"bind fd@{sock.fileno()} ssl"),
            ("/etc/ssl/chat/both.pem", str(both)),
            ("127.0.0.1:8000", f"127.0.0.1:{port}"),
        )
        with haproxy(changed, folder, sock):
            yield sock.getsockname()[1]


def caddy_front(folder: Path, pair: Pair, port: int) -> AbstractContextManager[int]:
    def configured(front: int) -> str:
        site = f"https://127.0.0.1:{front} {{\n    tls {pair.certfile} {pair.keyfile}"
        return configuration(
            "reverse_proxy", ("chat.example {", site), ("unix//run/chat/chat.sock", f"unix/{folder / 'chat.sock'}")
        )

    return caddy(configured, folder)


FRONTS: dict[str, Callable[[Path, Pair, int], AbstractContextManager[int]]] = {
    "nginx": nginx_front,
    "haproxy": haproxy_front,
    "caddy": caddy_front,
}


@BEHIND
def test_web_sockets_pages_and_the_clients_address(name: str, pair: Pair, tmp_path: Path) -> None:
    """A page's origin, too: it is compared with what `Host` says."""
    app, ws = App(trusted_proxies=["unix", "127.0.0.1"]), WebSocketServer()
    app.get("/who")(lambda request: request.client[0] if request.client else "")

    @ws.on_message
    def received(conn: Any, message: str) -> None:
        conn.send(f"{message} from {conn.remote_address[0]}")

    async def main() -> None:
        async with app.listening(listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"]) as server:
            with FRONTS[name](tmp_path, pair, server.port) as port:
                front, tls = SimpleNamespace(host="127.0.0.1", port=port), pair.client()
                async with tcp(front, tls=tls, source=CLIENT) as client:
                    await client.send(request("/who", {"Host": f"127.0.0.1:{port}"}))
                    assert (await client.answer()).body == CLIENT.encode()
                page = {"origin": f"https://127.0.0.1:{port}", "local_addr": (CLIENT, 0)}
                async with connect(front, ssl=tls, **page) as client:
                    await client.send("Hello")
                    assert await client.recv() == f"Hello from {CLIENT}"

    asyncio.run(main())


WORKERS = """
from crest import App, WebSocketServer

ws = WebSocketServer()

@ws.on_message
def received(conn, message):
    ws.broadcast(message)

App().run(listen=["127.0.0.1:0", "unix:chat.sock"], workers=2)
"""


@BEHIND
def test_workers(name: str, pair: Pair, tmp_path: Path) -> None:
    async def main(port: int) -> None:
        front, tls = SimpleNamespace(host="127.0.0.1", port=port), pair.client()
        clients = [await connect(front, ssl=tls) for _ in range(6)]
        for number, each in enumerate(clients):
            await each.send(f"{number}")
            for other in clients:
                async with asyncio.timeout(GUARD):
                    assert await other.recv() == f"{number}"
        for each in clients:
            await each.close()

    with running(WORKERS, tmp_path) as program:
        program.until("2 workers serve")
        with FRONTS[name](tmp_path, pair, program.port) as port:
            asyncio.run(main(port))


@needs_nginx
def test_nginx_takes_its_configuration(pair: Pair, tmp_path: Path) -> None:
    process = nginx(nginx_configuration(tmp_path, f"unix:{tmp_path / 'front.sock'}", pair), tmp_path, "-t")
    _, said = process.communicate(timeout=GUARD)
    assert process.returncode == 0, said
    assert not re.search(r"\[(warn|error|crit|emerg)\]", said), said


@needs_haproxy
def test_haproxy_takes_its_configurations(tmp_path: Path) -> None:
    found = [
        each.code
        for each in FENCES
        if each.language == "text" and "server crest" in each.code and "crt " not in each.code
    ]
    (lines,) = [each.code for each in FENCES if each.language == "text" and "http-check" in each.code]
    check = re.compile(r"    option httpchk .*\n")
    found += [check.sub(lines, each) for each in found if check.search(each)]
    assert len(found) == 3
    for each in found:
        said = haproxy_on("defaults\ntimeout server 1m\ntimeout connect 1m\n" + each, tmp_path)
        assert said == "", each
