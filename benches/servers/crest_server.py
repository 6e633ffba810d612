"""A crest server for the load generators: `crest_server.py PORT MODE`.

MODE: echo (text and binary), bcast (each text message to every connection), async (echo by `async def` handlers);
with "-deflate" behind it, the same with every message compressed that becomes shorter, for clients that can.
"""

import sys

from crest import App, Deflate, WebSocketServer

port, (mode, _, deflate) = int(sys.argv[1]), sys.argv[2].partition("-")
app = App()
ws = WebSocketServer(max_message_size=64 << 20, compression=Deflate(threshold=0) if deflate else None)

if mode == "bcast":

    @ws.on_message
    def received(conn, message):
        ws.broadcast(message)

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


app.run("127.0.0.1", port)
