"""A crest server within FastAPI for `load`: `mounted_server.py PORT MODE`.

uvicorn serves it, on uvloop and httptools, with crest's class for WebSockets. A route leads to the WebSocketServer.
"""

import sys

import uvicorn
from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from crest import WebSocketServer

port, mode = int(sys.argv[1]), sys.argv[2]
app, ws = FastAPI(), WebSocketServer(max_message_size=64 << 20)
app.router.routes.append(WebSocketRoute("/ws", ws))

if mode == "bcast":

    @ws.on_message
    def received(conn, message):
        ws.broadcast(message)

else:

    @ws.on_message
    def received(conn, message):
        conn.send(message)

    @ws.on_binary
    def received_binary(conn, data):
        conn.send_binary(data)


uvicorn.run(
    app,
    host="127.0.0.1",
    port=port,
    loop="uvloop",
    http="httptools",
    ws="crest.asgi:WebSocketProtocol",
    lifespan="off",
    access_log=False,
    log_level="warning",
)
