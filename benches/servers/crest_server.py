"""A crest server for the load generators: `crest_server.py PORT MODE`.

MODE: echo (text and binary), bcast (each text message to every connection), async (echo by `async def` handlers).
"""

import sys

from crest import App, WebSocketServer

port, mode = int(sys.argv[1]), sys.argv[2]
app = App()
ws = WebSocketServer(max_message_size=64 << 20)

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
