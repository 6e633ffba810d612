"""A granian server for `load`: `granian_server.py PORT MODE`.

A Rust server with Python handlers, by its own interface RSGI, on uvloop. One worker process with one runtime thread;
granian's supervisor is a second process.
"""

import os
import sys

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.rsgi import WebsocketMessageType, WebsocketProtocol

transports = set()


async def answer(transport, message):
    if message.kind == WebsocketMessageType.string:
        await transport.send_str(message.data)
    else:
        await transport.send_bytes(message.data)


async def echo(scope, protocol: WebsocketProtocol):
    transport = await protocol.accept()
    while (message := await transport.receive()).kind != WebsocketMessageType.close:
        await answer(transport, message)
    protocol.close()


async def send_to_all(scope, protocol: WebsocketProtocol):
    transport = await protocol.accept()
    transports.add(transport)
    try:
        while (message := await transport.receive()).kind != WebsocketMessageType.close:
            for each in tuple(transports):
                await answer(each, message)
    finally:
        transports.discard(transport)
    protocol.close()


if __name__ == "__main__":
    port, mode = int(sys.argv[1]), sys.argv[2]
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # where the worker process finds the target
    Granian(
        f"granian_server:{'send_to_all' if mode == 'bcast' else 'echo'}",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        workers=1,
        runtime_threads=1,
        log_enabled=False,
    ).serve()
