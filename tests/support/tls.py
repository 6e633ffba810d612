"""Servers that listen with TLS, and what of it needs transports of crest's own."""

from typing import Any

import pytest

from crest import App, WebSocketServer
from crest.io.loop.poller import Poller
from support.certificates import Pair

SNIFFS = pytest.mark.skipif(not Poller.exists, reason="there, what is not TLS is only cut off")
OURS = pytest.mark.skipif(not Poller.exists, reason="the loop's transports do not tell of TLS's own records")


def echo() -> WebSocketServer:
    """A server that sends everything back."""
    ws = WebSocketServer(max_message_size=1 << 26)
    ws.on_message(lambda conn, message: conn.send(message))
    ws.on_binary(lambda conn, data: conn.send_binary(data))
    return ws


def served(pair: Pair, direct: bool, **options: Any) -> Any:
    """A new app, listening with TLS."""
    return App(**options).listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crest"]
