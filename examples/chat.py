"""The chat of docs/websocket.md, with a page for the browser: start it and open http://localhost:8000/ in two windows.

HOST and PORT in the environment say where it listens; PORT=0 takes any free port, which the log then names.
"""

import json
import os
import time
from pathlib import Path

from crest import App, CloseCode, Request, WebSocketConnection, WebSocketServer

MAX_NAME = 32  # characters
MAX_TEXT = 2000

app = App()
ws = WebSocketServer(max_connections=1000, max_message_size=32 * 1024)
users: dict[str, str] = {}  # connection id -> name; two connections of one name are one member


def tell_everyone(**fields: object) -> None:
    ws.broadcast(json.dumps({**fields, "time": round(time.time())}))


def parse(message: str) -> dict[str, object]:
    """The JSON object in a message. ValueError, here and below, says to the client what is wrong."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        raise ValueError("a message must be JSON") from None
    if not isinstance(data, dict):
        raise ValueError("a message must be a JSON object")
    return data


def text_of(data: dict[str, object], field: str, limit: int) -> str:
    value = data.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{field!r} must be a string")
    value = value.strip()
    if not 1 <= len(value) <= limit:
        raise ValueError(f"{field!r} must have 1 to {limit} characters")
    return value


def enter(conn: WebSocketConnection, name: str, back: bool) -> None:
    leave(conn)  # as whom it was before
    is_new = name not in users.values()
    users[conn.get_id()] = name
    conn.send(json.dumps({"type": "members", "users": sorted(set(users.values()))}))
    if is_new:
        tell_everyone(type="join", user=name, back=back)


def leave(conn: WebSocketConnection, restart: bool = False) -> None:
    name = users.pop(conn.get_id(), None)
    if name is not None and name not in users.values():
        tell_everyone(type="leave", user=name, restart=restart)


def handle(conn: WebSocketConnection, data: dict[str, object]) -> None:
    if data.get("type") == "join":
        name = text_of(data, "username", MAX_NAME)
        if not name.isprintable():
            raise ValueError("'username' must not have control characters")
        enter(conn, name, back=data.get("back") is True)
    elif data.get("type") == "message":
        text = text_of(data, "text", MAX_TEXT)
        if conn.get_id() not in users:
            raise ValueError("'join' comes first")
        tell_everyone(type="message", user=users[conn.get_id()], text=text)
    else:
        raise ValueError("'type' must be 'join' or 'message'")


@ws.on_message
def received(conn: WebSocketConnection, message: str) -> None:
    try:
        handle(conn, parse(message))
    except ValueError as error:
        conn.send(json.dumps({"type": "error", "text": str(error)}))


@ws.on_close
def closed(conn: WebSocketConnection, code: int, reason: str) -> None:
    leave(conn, restart=code == CloseCode.SERVICE_RESTART)


@app.get("/")
def page(request: Request) -> str:
    return Path(__file__).with_name("chat.html").read_text(encoding="utf-8")


app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
