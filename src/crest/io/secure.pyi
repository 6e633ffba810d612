import ssl
from asyncio import Future
from typing import Any, final

from crest.io.stream import StreamTransport

@final
class SecureTransport(StreamTransport):
    def shake_hands(self, context: ssl.SSLContext, room: bytearray) -> Future[None]: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
