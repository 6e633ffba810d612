"""A socketify server for `load`: `socketify_server.py PORT MODE`.

uWebSockets in C++ with Python handlers; the event loop is libuv's, and a broadcast is uWebSockets' own publish.
"""

import sys

from socketify import App, CompressOptions

port, mode = int(sys.argv[1]), sys.argv[2]
app = App()


def echo(ws, message, opcode):
    ws.send(message, opcode)


def subscribe(ws):
    ws.subscribe("all")


def send_to_all(ws, message, opcode):
    app.publish("all", message, opcode)


handlers = {"open": subscribe, "message": send_to_all} if mode == "bcast" else {"message": echo}
app.ws(
    "/ws",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 64 << 20,
        "max_backpressure": 64 << 20,
        "idle_timeout": 0,
        **handlers,
    },
)
app.listen({"host": "127.0.0.1", "port": port}, lambda config: None)
app.run()
