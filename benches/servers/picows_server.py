"""A picows server for `load`: `picows_server.py PORT MODE [CERTIFICATE KEY]`.

A C transport (aiofastnet, which does TLS itself) and parser on uvloop. Handlers see frames, as is usual with picows:
text is neither decoded nor validated.
"""

import ssl
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

port, mode = int(sys.argv[1]), sys.argv[2]
context = None
if sys.argv[3:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[3:5])
transports: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Broadcast(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transports.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        transports.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        for each in transports:
            each.send(frame.msg_type, payload)


async def main() -> None:
    listener = Broadcast if mode == "bcast" else Echo
    server = await ws_create_server(lambda request: listener(), "127.0.0.1", port, ssl=context, max_frame_size=64 << 20)
    await server.serve_forever()


uvloop.run(main())
