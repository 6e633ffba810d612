"""Connections of proxies that have named their client by the PROXY protocol, in a header before everything else.

A trusted proxy's connection begins with that header, or is dropped without an answer: without it the client is not
known. No header is expected on the connection of another peer. The rules of the header itself are wire/proxy.py's, and
io/net/preface.pyx reads it, before there is a protocol.
"""

from __future__ import annotations

from crest.admission.proxies import Client, TrustedProxies
from crest.io.life.protocol import Protocol
from crest.opening.opening import Opening
from crest.opening.site import Site
from crest.wire.head import RequestHead


class ProxiedOpening(Opening):
    """Reads requests behind the header. The client that it has named is the peer.

    X-Forwarded-For is only believed if that client is a trusted proxy, too. If the header has named no client, it is
    not believed at all, as it may be the client's own.

    Args:
        tls_ended: True if the client speaks TLS with the proxy, as the header says.
    """

    __slots__ = ()

    def __init__(self, site: Site, protocol: Protocol, source: Client | None = None, tls_ended: bool = False) -> None:
        super().__init__(site, protocol, source)
        self._tls_ended = tls_ended

    def _client_of(self, proxies: TrustedProxies, head: RequestHead) -> Client | None:
        return None if self._source is None else proxies.client(self._source, head)
