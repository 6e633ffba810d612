"""A socketify server for `load`: `socketify_server.py PORT MODE`.

uWebSockets in C++ with Python handlers; the event loop is libuv's. Rooms are uWebSockets' topics, a broadcast is its
own publish.
"""

import sys
from itertools import cycle

from socketify import App, CompressOptions

port, mode = int(sys.argv[1]), sys.argv[2]
app = App()


def echo(ws, message, opcode):
    ws.send(message, opcode)


def subscribe(ws):
    ws.subscribe("all")


def send_to_all(ws, message, opcode):
    app.publish("all", message, opcode)


def upgrade(res, req, context):
    names = req.get_query("rooms").split(",")
    key, extensions = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-extensions")
    res.upgrade(key, "", extensions, context, (names, cycle(names)))


def join(ws):
    for name in ws.get_user_data()[0]:
        ws.subscribe(name)


def send_to_room(ws, message, opcode):
    app.publish(next(ws.get_user_data()[1]), message, opcode)


handlers = {
    "echo": {"message": echo},
    "bcast": {"open": subscribe, "message": send_to_all},
    "rooms": {"upgrade": upgrade, "open": join, "message": send_to_room},
}
app.ws(
    "/ws",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 64 << 20,
        "max_backpressure": 64 << 20,
        "idle_timeout": 0,
        **handlers[mode],
    },
)
app.listen({"host": "127.0.0.1", "port": port}, lambda config: None)
app.run()
