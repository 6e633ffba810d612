import ssl
from typing import Any, final

from crest.io.loop.clock import Deadline
from crest.io.net.stream import StreamTransport

class Handshake(Deadline):
    def over(self, error: BaseException | None) -> None: ...

@final
class SecureTransport(StreamTransport):
    def shake_hands(self, context: ssl.SSLContext, room: bytearray, handshake: Handshake) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
