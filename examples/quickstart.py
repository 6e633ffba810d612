"""The first program of docs/websocket.md: greets who connects, and sends every message to everyone.

HOST and PORT in the environment say where it listens; PORT=0 takes any free port, which the log then names.
"""

import os

from crest import App, WebSocketConnection, WebSocketServer

app = App()
ws = WebSocketServer()


@ws.on_connect
def connected(conn: WebSocketConnection) -> None:
    print("Client connected:", conn.get_id())
    conn.send('{"type":"welcome","message":"Connected!"}')


@ws.on_message
def received(conn: WebSocketConnection, message: str) -> None:
    print("Received:", message)
    ws.broadcast(message)


@ws.on_close
def closed(conn: WebSocketConnection, code: int, reason: str) -> None:
    print("Client disconnected:", conn.get_id())


app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
