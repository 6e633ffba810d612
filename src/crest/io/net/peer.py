"""The facts that the transport of a connection knows of its peer."""

from __future__ import annotations

from asyncio import BaseTransport

from crest.io.net.stream import StreamTransport

Transport = StreamTransport | BaseTransport


def client_address(transport: Transport) -> tuple[str, int] | None:
    """Find the address and port of the peer; None for a Unix socket."""
    peer = transport.get_extra_info("peername")
    return (peer[0], peer[1]) if isinstance(peer, tuple) else None


def scheme_of(transport: BaseTransport, tls_ended: bool) -> str:
    """Find how the client addressed the server: "https" over TLS, which a proxy may have ended, else "http"."""
    return "https" if tls_ended or transport.get_extra_info("sslcontext") is not None else "http"
