"""The scope of an ASGI WebSocket connection, made of its request.

Source: the ASGI specification, "WebSocket connection scope", spec_version 2.4; and its extension "WebSocket denial
response".
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from crest.io.net.peer import client_address, scheme_of
from crest.wire.head import RequestHead

Scope = dict[str, Any]


def scope_of(
    head: RequestHead,
    subprotocols: tuple[str, ...],
    transport: Any,
    *,
    root_path: str,
    asgi_version: str,
    state: dict[str, Any],
) -> Scope:
    """Make the scope of one connection.

    Args:
        head: Of its request.
        subprotocols: Those that the client offers.
        transport: Knows both addresses, and whether it speaks TLS.
        root_path: Where the application is mounted.
        asgi_version: Of the ASGI that the application speaks.
        state: What its lifespan has kept; the connection gets a copy.
    """
    path, _, query = head.target.partition("?")
    server = transport.get_extra_info("sockname")
    return {
        "type": "websocket",
        "asgi": {"version": asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if scheme_of(transport, False) == "https" else "ws",
        "server": (server, None) if isinstance(server, str) else server and tuple(server[:2]),
        "client": client_address(transport),
        "root_path": root_path,
        "path": root_path + unquote(path),
        "raw_path": (root_path + path).encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()],
        "subprotocols": list(subprotocols),
        "state": state.copy(),
        "extensions": {"websocket.http.response": {}},
    }


def peer_name(scope: Scope) -> str:
    """Return the client's address and port, for the log."""
    client = scope["client"]
    return f"{client[0]}:{client[1]}" if client else ""
