"""What type checkers must find out about crest's public names; `make types` and tests/test_typing.py check it.

An `unused-ignore` is an error too (mypy --strict): each one below asserts that the line is refused.
"""

import re
import socket
from ipaddress import ip_network
from pathlib import Path
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any, assert_type

from multidict import CIMultiDictProxy, MultiDictProxy

import crest
from crest import (
    Accept,
    App,
    CloseCode,
    Deflate,
    ErrorText,
    Opcode,
    Presence,
    Reject,
    Request,
    Response,
    UserRoom,
    WebSocketConnection,
    WebSocketServer,
)

app = App(open_timeout=5.0)
ws = WebSocketServer("/game", subprotocols=["chat"], max_message_size=1 << 16, on_backlog="drop")

assert_type(crest.__version__, str)


# ---- Handlers: decorators keep the type of what they register ------------------------------------------------------


@ws.on_upgrade
async def authenticate(request: Request) -> str:
    if "token" not in request.query:
        raise Reject(401, "why", headers={"WWW-Authenticate": "Bearer"})
    raise Reject(reason="why", headers=[("X-Name", "value")])


Accept("Alice", max_queue=3, max_message_rate=(10, 50), max_byte_rate=None, on_rate="wait", idle_timeout=...)
Accept("Alice", max_queue=None)  # type: ignore[arg-type]
Accept("Alice", on_rate="open")  # type: ignore[arg-type]
Accept("Alice", 3)  # type: ignore[call-arg]
WebSocketServer(max_message_rate=5, on_rate="drop")
App(close_codes="rfc6455")


@ws.on_connect
def connected(conn: WebSocketConnection) -> None:
    assert_type(conn.get_id(), str)
    assert_type(conn.is_open(), bool)
    assert_type(conn.send("text"), bool)
    assert_type(conn.send_binary(b"bytes"), bool)
    assert_type(conn.send_binary(bytearray(1)), bool)
    assert_type(conn.send_binary(memoryview(b"")), bool)
    assert_type(conn.ping(), bool)
    assert_type(conn.buffered, int)
    assert_type(conn.dropped, int)
    assert_type(conn.discarded, int)
    assert_type(conn.latency, float | None)
    assert_type(conn.subprotocol, str | None)
    assert_type(conn.remote_address, tuple[str, int] | None)
    assert_type(conn.request, Request)
    assert_type(conn.state, SimpleNamespace)
    assert_type(conn.user, Any)
    conn.close()
    conn.close(CloseCode.GOING_AWAY, "bye")
    conn.close(code=4000, reason="bye")
    conn.send(b"bytes")  # type: ignore[arg-type]
    conn.send_binary("text")  # type: ignore[arg-type]
    assert_type(conn.send("text", compress=False), bool)
    assert_type(conn.send_binary(b"bytes", compress=False), bool)
    conn.send("text", False)  # type: ignore[call-arg]
    conn.send(text="text")  # type: ignore[call-arg]
    conn.send("text", compressed=False)  # type: ignore[call-arg]
    conn.send_binary(b"bytes", False)  # type: ignore[call-arg]
    conn.send_binary(data=b"bytes")  # type: ignore[call-arg]
    conn.ping(b"payload")  # type: ignore[call-arg]
    assert_type(conn.compression, str | None)
    conn.buffered = 1  # type: ignore[misc]
    assert_type(conn.send("text", key=("AAPL", 1)), bool)
    conn.send_binary(b"bytes", key=[])  # type: ignore[arg-type]
    assert_type(conn.join("room"), bool)
    conn.leave("room")
    assert_type(conn.rooms, frozenset[str])
    conn.rooms = frozenset()  # type: ignore[misc]
    conn.join(UserRoom("user"))  # type: ignore[arg-type]
    conn.join(room="room")  # type: ignore[call-arg]


@ws.on_message
async def received(conn: WebSocketConnection, message: str) -> None:
    ws.broadcast(message)


@ws.on_error
def failed(conn: WebSocketConnection, error: ErrorText) -> None:
    assert_type(error.exception, BaseException | None)
    assert_type(error.upper(), str)


def check_handlers() -> None:
    assert_type(connected(ws.get_connections()[0]), None)
    ws.on_message(lambda conn, message: conn.send(message))
    ws.on_binary(lambda conn, data: None)
    ws.on_close(lambda *args: None)
    ws.on_upgrade(lambda request: None)
    app.get("/lambda")(lambda request: "page")
    ws.on_drain(lambda conn: None)
    ws.broadcast("101.5", key="AAPL")
    ws.broadcast_binary(b"101.5", key=("AAPL", 1))
    ws.on_close(None)  # type: ignore[type-var]


# ---- WebSocketServer -----------------------------------------------------------------------------------------------


def check_server() -> None:
    assert_type(ws.connection_count(), int)
    assert_type(ws.get_connections(), list[WebSocketConnection])
    ws.broadcast_binary(memoryview(b""))
    ws.broadcast(b"bytes")  # type: ignore[arg-type]
    ws.broadcast_binary("text")  # type: ignore[arg-type]
    assert_type(ws.refused, dict[str, int])
    WebSocketServer(origins=["same", re.compile("https://.*")], max_connections=10, max_connections_per_ip=None)
    WebSocketServer(origins="*")
    WebSocketServer(max_message_rate=10, max_byte_rate=(1e6, 2_000_000), count_inflated=True)
    WebSocketServer(max_message_rate="10")  # type: ignore[arg-type]
    WebSocketServer(origins=None)  # type: ignore[arg-type]
    Reject("why")  # type: ignore[arg-type]
    WebSocketServer(compression=Deflate(level=6))
    WebSocketServer(compression="deflate")
    WebSocketServer(compression="gzip")  # type: ignore[arg-type]
    ws.broadcast("text", compress=False)
    ws.broadcast("text", False)  # type: ignore[call-arg, arg-type]
    ws.broadcast("text", keys="AAPL")  # type: ignore[call-arg]
    ws.broadcast("text", key=[])  # type: ignore[arg-type]
    ws.broadcast_binary(b"bytes", "AAPL")  # type: ignore[call-arg]
    ws.broadcast_binary(b"bytes", key={})  # type: ignore[arg-type]
    (conn,) = ws.get_connections()
    ws.broadcast("text", to="room", exclude=conn, key=1, local=True)
    ws.broadcast_binary(b"bytes", to=["room", ws.user("user")], exclude=[conn])
    ws.broadcast("text", to=conn.rooms)
    ws.broadcast("text", to=1)  # type: ignore[arg-type]
    ws.broadcast("text", exclude=conn.get_id())  # type: ignore[arg-type]
    assert_type(ws.user("user"), UserRoom)
    assert_type(ws.user("user").name, str)
    assert_type(ws.room_size("room") + ws.room_size(ws.user("user")), int)
    assert_type(ws.room_names(), list[str])
    assert_type(ws.send_to(conn.get_id(), "text"), bool)
    assert_type(ws.send_binary_to(conn.get_id(), b"bytes", compress=False), bool)
    ws.send_to(conn, "text")  # type: ignore[arg-type]
    WebSocketServer(user_key="name")
    WebSocketServer(user_key=1)  # type: ignore[arg-type]
    WebSocketServer(on_backlog="ignore")  # type: ignore[arg-type]
    WebSocketServer("/ws", ["chat"])  # type: ignore[call-arg]


# ---- App -----------------------------------------------------------------------------------------------------------


@app.get("/")
def page(request: Request) -> str:
    assert_type(request.path, str)
    assert_type(request.query, MultiDictProxy[str])
    assert_type(request.headers, CIMultiDictProxy[str])
    assert_type(request.cookies, dict[str, str])
    assert_type(request.client, tuple[str, int] | None)
    return "page"


def check_pages(request: Request) -> None:
    assert_type(page(request), str)
    assert_type(Response("text", 404, {"X-Name": "value"}, content_type="text/plain").body, bytes)
    Response(1)  # type: ignore[arg-type]


async def check_app() -> None:
    app.mount("/game", ws)
    assert_type(app.refused, dict[str, int])
    App(hosts=["example.com"], page_timeout=None, max_sockets_per_ip=20)
    App(max_tls_handshakes=100, max_tls_handshakes_per_ip=None)
    App(hosts=1)  # type: ignore[arg-type]
    App(page_timeout="60")  # type: ignore[arg-type]
    app.static("/files", "directory")
    async with app.listening(port=0) as listener:
        assert_type(listener.host, str)
        assert_type(listener.port, int)
        assert_type(listener.urls, list[str])
        listener.reload()
    await app.serve("0.0.0.0", 8000)
    App(trusted_proxies=["10.0.0.1", ip_network("10.0.0.0/8")], forwarded_header="Forwarded")
    App(forwarded_header="X-Real-IP")  # type: ignore[arg-type]
    await app.serve(listen=["127.0.0.1:8000", socket.socket()], unix=Path("s"), unix_mode=0o660)
    await app.serve(certfile="certificate.pem", keyfile=Path("key.pem"))
    await app.serve(ssl=SSLContext())
    await app.serve(listen=8000)  # type: ignore[arg-type]
    await app.serve(ssl=True)  # type: ignore[arg-type]
    app.run(loop="trio")  # type: ignore[arg-type]


# ---- Numbers -------------------------------------------------------------------------------------------------------

assert_type(CloseCode(1000), CloseCode)
assert_type(Opcode.TEXT + 0, int)


async def who_is_there(ws: WebSocketServer) -> None:
    assert_type(await ws.count() + await ws.count(to=["room", ws.user("user")]), int)
    assert_type(await ws.members("room") + await ws.members(ws.user("user")), list[Presence])
    assert_type((await ws.members("room"))[0].user, str | None)
    await ws.count("room")  # type: ignore[call-arg]
    await ws.members()  # type: ignore[call-arg]
