"""A crest server for the load generators: `crest_server.py PORT MODE [CERTIFICATE KEY]`.

MODE: echo (text and binary), bcast (each text message to every connection), rooms (each to one of the connection's
rooms, which its request names, after the other), async (echo by `async def` handlers); with "-deflate" behind it, the
same with every message compressed that becomes shorter, for clients that can; with "-loop", on the event loop's
transports; with "-4", by four workers. With a certificate, over TLS.
"""

import asyncio
import sys
from itertools import cycle

import uvloop

from crest import App, Deflate, WebSocketServer

port, (mode, _, how) = int(sys.argv[1]), sys.argv[2].partition("-")
tls = dict(zip(("certfile", "keyfile"), sys.argv[3:5], strict=False))
app = App(shutdown_timeout=60)  # of very many clients on the same machine
ws = WebSocketServer(max_message_size=64 << 20, compression=Deflate(threshold=0) if how == "deflate" else None)

if mode == "bcast":

    @ws.on_message
    def received(conn, message):
        ws.broadcast(message)

elif mode == "rooms":

    @ws.on_connect
    def opened(conn):
        names = conn.request.query["rooms"].split(",")
        conn.state.rooms = cycle(names)
        for name in names:
            conn.join(name)

    @ws.on_message
    def received(conn, message):
        ws.broadcast(message, to=next(conn.state.rooms))

elif mode == "async":

    @ws.on_message
    async def received(conn, message):
        conn.send(message)

    @ws.on_binary
    async def received_binary(conn, data):
        conn.send_binary(data)

else:

    @ws.on_message
    def received(conn, message):
        conn.send(message)

    @ws.on_binary
    def received_binary(conn, data):
        conn.send_binary(data)


async def serve_on_the_loop_s_transports():
    async with app.listening("127.0.0.1", port, direct=False, **tls):
        await asyncio.Event().wait()


if how == "loop":
    uvloop.run(serve_on_the_loop_s_transports())
else:
    app.run("127.0.0.1", port, workers=int(how) if how.isdigit() else 1, **tls)
