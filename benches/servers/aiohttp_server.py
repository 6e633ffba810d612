"""An aiohttp server for `load`: `aiohttp_server.py PORT MODE [CERTIFICATE KEY]`.

On uvloop, with aiohttp's C extensions.
"""

import ssl
import sys

import uvloop
from aiohttp import WSMsgType, web

port, mode = int(sys.argv[1]), sys.argv[2]
context = None
if sys.argv[3:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[3:5])
connections: set[web.WebSocketResponse] = set()


async def echo(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse(compress=False, max_msg_size=0)
    await connection.prepare(request)
    async for message in connection:
        if message.type == WSMsgType.TEXT:
            await connection.send_str(message.data)
        else:
            await connection.send_bytes(message.data)
    return connection


async def send_to_all(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse(compress=False, max_msg_size=0)
    await connection.prepare(request)
    connections.add(connection)
    try:
        async for message in connection:
            for each in tuple(connections):
                await each.send_str(message.data)
    finally:
        connections.discard(connection)
    return connection


app = web.Application()
app.router.add_get("/ws", send_to_all if mode == "bcast" else echo)
loop = uvloop.new_event_loop()
web.run_app(app, host="127.0.0.1", port=port, ssl_context=context, print=None, access_log=None, loop=loop)
