"""crest: a WebSocket server for Python, as fast as the best C++ one, made for broadcast."""

from crest._version import __version__
from crest.admission.acceptance import Accept
from crest.app import App
from crest.asgi.bridge import over_events
from crest.connection import WebSocketConnection
from crest.exceptions import ConfigurationError, CrestError, HandshakeError, ListenError, Reject
from crest.gap import Gap
from crest.http.messages import Request, Response
from crest.io.life.calls import ErrorText
from crest.io.out.address import UserRoom
from crest.presence import Presence
from crest.server import WebSocketServer
from crest.totals import Totals
from crest.wire.codes import CloseCode, Opcode
from crest.wire.extensions import Deflate

WebSocketServer._over_events = over_events

__all__ = [
    "Accept",
    "App",
    "CloseCode",
    "ConfigurationError",
    "CrestError",
    "Deflate",
    "ErrorText",
    "Gap",
    "HandshakeError",
    "ListenError",
    "Opcode",
    "Presence",
    "Reject",
    "Request",
    "Response",
    "Totals",
    "UserRoom",
    "WebSocketConnection",
    "WebSocketServer",
    "__version__",
]
