"""Connections of proxies that name their client by the PROXY protocol, in a header before everything else.

A trusted proxy's connection begins with that header, or is dropped without an answer: without it the client is not
known. No header is expected on the connection of another peer. The rules of the header itself are wire/proxy.py's.
"""

from __future__ import annotations

from collections.abc import Callable

from crest.admission.proxies import Client, TrustedProxies
from crest.io.life.protocol import Protocol
from crest.io.net.peer import client_address
from crest.opening.opening import Opening
from crest.opening.site import Site
from crest.wire.head import RequestHead
from crest.wire.proxy import MalformedHeader, ProxyHeader


class ProxiedOpening(Opening):
    """Reads requests behind the header. The client that it has named is the peer.

    X-Forwarded-For is only believed if that client is a trusted proxy, too. If the header has named no client, it is
    not believed at all, as it may be the client's own.
    """

    __slots__ = ()

    def _client_of(self, proxies: TrustedProxies, head: RequestHead) -> Client | None:
        return None if self._source is None else proxies.client(self._source, head)


class HeaderOpening(ProxiedOpening):
    """Reads the header first.

    Args:
        named: Is told the client that the header names; its False means that this client has too many connections.
    """

    __slots__ = ("_header", "_named")

    def __init__(self, site: Site, protocol: Protocol, named: Callable[[Client | None], bool] | None = None) -> None:
        super().__init__(site, protocol)
        self._named = named
        self._header: ProxyHeader | None = ProxyHeader()

    def data_received(self, data: bytes) -> None:
        """Read the header from bytes that have come, and then requests."""
        if self._header is not None:
            try:
                size = self._header.feed(data)
            except MalformedHeader as error:
                self._drop(str(error))
                return
            if not self._header.complete:
                return
            self._source = self._client = self._header.source
            self._tls_ended = self._header.tls
            self._header = None
            data = data[size:]
            if self._named is not None and not self._named(self._source):
                self._protocol.transport.abort()
                return
        super().data_received(data)

    def eof_received(self) -> bool:
        """Learn that the peer has closed its half. If it sent nothing, it only looked whether a server listens."""
        if self._header is None:
            return super().eof_received()
        if self._header.begun:
            self._drop("it is not complete")
        return False

    def timed_out(self) -> None:
        """End a connection on which no header has come in time, or no request."""
        if self._header is None:
            super().timed_out()
        else:
            self._drop(f"none within {self._site.open_timeout:g} s")

    def stop(self) -> None:
        """Answer no further request: the server ends. Before the header nothing can be said, and no client awaited."""
        if self._header is None:
            super().stop()
        else:
            self._protocol.transport.abort()

    def _drop(self, reason: str) -> None:
        transport = self._protocol.transport
        self._site.refuse_header(client_address(transport), reason)
        transport.abort()
