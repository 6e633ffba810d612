"""Rooms to talk in, with a page for the browser: start it and open http://localhost:8000/ in two windows.

crest knows which connection is in which room. Names, and the last messages, are kept here, in the program: they go when
it ends. HOST and PORT in the environment say where it listens; PORT=0 takes any free port, which the log then names.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from crest import App, CloseCode, Request, WebSocketConnection, WebSocketServer

MAX_NAME = 32  # characters, of a member or a room
MAX_TEXT = 500
MAX_ROOMS = 20
HISTORY = 50  # messages of a room
PERMANENT = ("Lobby", "Tea", "Trains")  # other rooms make way for new ones when they are empty

Data = dict[str, object]


@dataclass
class Room:
    members: dict[str, str] = field(default_factory=dict)  # connection id -> name; one name may have several
    messages: deque[Data] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def names(self) -> list[str]:
        return sorted(set(self.members.values()))


app = App()
ws = WebSocketServer(
    max_connections=1000,
    max_message_size=32 * 1024,
    max_message_rate=(10, 2 * MAX_ROOMS),  # who comes back joins all its rooms at once
    max_backlog=8 * 1024 * 1024,  # and gets what they remember; a character is up to twelve bytes of JSON
)
rooms = {name: Room() for name in PERMANENT}
ids = count(time.time_ns() // 1000)  # of messages: they grow, also from one start of the program to the next


def sizes() -> str:
    return json.dumps({"type": "rooms", "rooms": {name: len(room.names()) for name, room in rooms.items()}})


def announce(kind: str, room: str, user: str, **how: bool) -> None:
    fields = {"type": kind, "room": room, "user": user, "time": round(time.time())}
    ws.broadcast(json.dumps({**fields, **how}), to=room)
    ws.broadcast(sizes())


def parse(message: str) -> Data:
    """The JSON object in a message. ValueError, here and below, says to the client what is wrong."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        raise ValueError("a message must be JSON") from None
    if not isinstance(data, dict):
        raise ValueError("a message must be a JSON object")
    return data


def text_of(data: Data, field: str, limit: int) -> str:
    value = data.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{field!r} must be a string")
    value = value.strip()
    if not 1 <= len(value) <= limit:
        raise ValueError(f"{field!r} must have 1 to {limit} characters")
    return value


def name_of(data: Data, field: str) -> str:
    name = text_of(data, field, MAX_NAME)
    if not name.isprintable():
        raise ValueError(f"{field!r} must not have control characters")
    return name


def joined_room(conn: WebSocketConnection, data: Data) -> str:
    name = name_of(data, "room")
    if name not in conn.rooms:
        raise ValueError(f"you are not in {name}")
    return name


def open_room(name: str) -> Room:
    if name not in rooms and len(rooms) >= MAX_ROOMS:
        empty = [each for each, room in rooms.items() if not room.members and each not in PERMANENT]
        if not empty:
            raise ValueError(f"there are {MAX_ROOMS} rooms already")
        del rooms[empty[0]]
    return rooms.setdefault(name, Room())


def take_out(conn: WebSocketConnection, name: str, restart: bool = False) -> None:
    user = rooms[name].members.pop(conn.get_id(), None)
    if user is not None and user not in rooms[name].members.values():
        announce("leave", name, user, restart=restart)


def join(conn: WebSocketConnection, data: Data) -> None:
    name, user = name_of(data, "room"), name_of(data, "user")
    room = open_room(name)
    take_out(conn, name)  # as whom it was before
    is_new = user not in room.members.values()
    room.members[conn.get_id()] = user
    conn.join(name)
    conn.send(json.dumps({"type": "room", "room": name, "users": room.names(), "messages": list(room.messages)}))
    if is_new:
        announce("join", name, user, back=data.get("back") is True)


def leave(conn: WebSocketConnection, data: Data) -> None:
    name = joined_room(conn, data)
    conn.leave(name)
    take_out(conn, name)


def say(conn: WebSocketConnection, data: Data) -> None:
    name, text = joined_room(conn, data), text_of(data, "text", MAX_TEXT)
    user = rooms[name].members[conn.get_id()]
    message: Data = {"type": "message", "id": next(ids), "user": user, "text": text, "time": round(time.time())}
    rooms[name].messages.append(message)
    ws.broadcast(json.dumps({**message, "room": name}), to=name)


def typing(conn: WebSocketConnection, data: Data) -> None:
    name = joined_room(conn, data)
    user = rooms[name].members[conn.get_id()]
    ws.broadcast(json.dumps({"type": "typing", "room": name, "user": user}), to=name, exclude=conn)


COMMANDS: dict[str, Callable[[WebSocketConnection, Data], None]] = {
    "join": join,
    "leave": leave,
    "message": say,
    "typing": typing,
}


@ws.on_connect
def connected(conn: WebSocketConnection) -> None:
    conn.send(sizes())


@ws.on_message
def received(conn: WebSocketConnection, message: str) -> None:
    data: Data = {}
    try:
        data = parse(message)
        kind = data.get("type")
        if not isinstance(kind, str) or kind not in COMMANDS:
            raise ValueError(f"'type' must be one of {', '.join(COMMANDS)}")
        COMMANDS[kind](conn, data)
    except ValueError as error:
        room = data.get("room")
        conn.send(json.dumps({"type": "error", "text": str(error), "room": room if isinstance(room, str) else None}))


@ws.on_close
def closed(conn: WebSocketConnection, code: int, reason: str) -> None:
    for name in rooms:
        take_out(conn, name, restart=code == CloseCode.SERVICE_RESTART)


@app.get("/")
def page(request: Request) -> str:
    return Path(__file__).with_name("rooms.html").read_text(encoding="utf-8")


app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
