"""Notifications in a FastAPI program, with a page: start it, and open http://localhost:8000/ in two windows.

A plain route takes a notification and sends it to all connections of its user; the WebSocketServer is routed in the
same program, and uvicorn serves both. There are no passwords here: a name is believed. The last notifications of each
user are kept in memory, and go with the program. HOST and PORT in the environment say where it listens.
"""

import json
import os
import time
from collections import defaultdict, deque
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import Cookie, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.routing import WebSocketRoute

from crest import Reject, Request, WebSocketConnection, WebSocketServer

MAX_USERS = 1000
KEPT = 20  # notifications of a user


class Login(BaseModel):
    name: str = Field(min_length=1, max_length=32, pattern=r"^[\w-]+$")


class Notification(BaseModel):
    to: str = Field(min_length=1, max_length=32)
    text: str = Field(min_length=1, max_length=200)


app = FastAPI(title="Notifications")
ws = WebSocketServer(max_message_size=1024, max_message_rate=10, on_backlog="drop-oldest")
app.router.routes.append(WebSocketRoute("/notifications", ws))
kept: defaultdict[str, deque[str]] = defaultdict(partial(deque, maxlen=KEPT))


@ws.on_upgrade
def user_of(request: Request) -> str:
    user = request.cookies.get("user")
    if user is None or user not in kept:
        raise Reject(401, "log in first")
    return user


@ws.on_connect
def connected(conn: WebSocketConnection[str]) -> None:
    for each in kept[conn.user]:
        conn.send(each)


@app.post("/login")
async def login(who: Login, response: Response) -> dict[str, str]:
    if who.name not in kept and len(kept) >= MAX_USERS:
        raise HTTPException(503, "there are too many users")
    kept[who.name]  # is made by that
    response.set_cookie("user", who.name, samesite="strict", httponly=True)
    return {"name": who.name}


@app.post("/notify")
async def notify(notification: Notification, user: str | None = Cookie(None)) -> dict[str, int]:
    if user not in kept:
        raise HTTPException(401, "log in first")
    if notification.to not in kept:
        raise HTTPException(404, f"there is no {notification.to}")
    data = json.dumps({"from": user, "text": notification.text, "time": round(time.time())})
    kept[notification.to].append(data)
    ws.broadcast(data, to=ws.user(notification.to))
    return {"connections": ws.room_size(ws.user(notification.to))}


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("fastapi_notifications.html"))


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))
    uvicorn.run(app, host=host, port=port, ws="crest.asgi:WebSocketProtocol")
