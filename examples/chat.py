"""The chat of docs/websocket.md, with a page for the browser: start it and open http://localhost:8000/ in two windows.

HOST and PORT in the environment say where it listens; PORT=0 takes any free port, which the log then names.
"""

import json
import os
from pathlib import Path

from crest import App, Request, WebSocketConnection, WebSocketServer

MAX_NAME = 32  # characters
MAX_TEXT = 2000

app = App()
ws = WebSocketServer(max_message_size=32 * 1024)
users: dict[str, str] = {}  # connection id -> name


def tell_everyone(**fields: str) -> None:
    ws.broadcast(json.dumps(fields))


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


def handle(conn: WebSocketConnection, data: dict[str, object]) -> None:
    if data.get("type") == "join":
        name = text_of(data, "username", MAX_NAME)
        if not name.isprintable():
            raise ValueError("'username' must not have control characters")
        users[conn.get_id()] = name
        tell_everyone(type="join", user=name)
    elif data.get("type") == "message":
        text = text_of(data, "text", MAX_TEXT)
        tell_everyone(type="message", user=users[conn.get_id()], text=text)
    else:
        raise ValueError("'type' must be 'join' or 'message'")


@ws.on_connect
def connected(conn: WebSocketConnection) -> None:
    users[conn.get_id()] = "Anonymous"


@ws.on_message
def received(conn: WebSocketConnection, message: str) -> None:
    try:
        handle(conn, parse(message))
    except ValueError as error:
        conn.send(json.dumps({"type": "error", "text": str(error)}))


@ws.on_close
def closed(conn: WebSocketConnection, code: int, reason: str) -> None:
    tell_everyone(type="leave", user=users.pop(conn.get_id()))


@app.get("/")
def page(request: Request) -> str:
    return Path(__file__).with_name("chat.html").read_text(encoding="utf-8")


app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
