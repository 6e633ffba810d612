"""crest.opening.site: what connections report to, without any: openings and protocols are made up here."""

import asyncio
from collections import Counter
from typing import Any

from support.events import on_each_loop

from crest import HandshakeError
from crest.http.pages import Pages
from crest.io.life.protocol import Protocol
from crest.io.loop.turn import Turn
from crest.opening.seated import SeatedSite
from crest.opening.site import Site
from crest.serving import Serving
from crest.wire.head import RequestHead, parse_head


class Plain:
    """An opening that counts how often it is told to stop."""

    def __init__(self, site: Site, protocol: Protocol) -> None:
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1

    def connection_lost(self) -> None:
        pass


class Transport:
    def __init__(self, address: tuple[str, int] = ("192.0.2.7", 1)) -> None:
        self.address = address

    def get_extra_info(self, name: str) -> Any:
        return self.address if name == "peername" else None

    def is_closing(self) -> bool:
        return False


def site_of(**options: Any) -> Site:
    refused: Counter[str] = Counter()
    return Site(Serving(**options), {}, Pages(), refused, 10.0, Plain)  # type: ignore[arg-type]


def connected(site: Site, *address: Any) -> Protocol:
    protocol = Protocol(Turn(asyncio.get_running_loop()), site)
    protocol.connection_made(Transport(*address))  # type: ignore[arg-type]
    return protocol


def head(host: str) -> RequestHead:
    return parse_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@on_each_loop
async def test_it_knows_its_connections_until_they_end() -> None:
    site, emptied = site_of(), list[str]()
    one, two = connected(site), connected(site)
    assert site.protocols == [one, two] and site.openings() == [one.opening, two.opening]
    one.connection_lost(None)
    assert site.protocols == [two]
    site.emptied = lambda: emptied.append("now")
    assert not emptied
    two.connection_lost(None)
    assert site.protocols == [] and emptied == ["now"]


@on_each_loop
async def test_who_comes_in_after_the_doors_are_closed_is_stopped() -> None:
    site = site_of()
    first = connected(site)
    site.accepting = False
    connected(site)
    await asyncio.sleep(0)
    assert [each.stopped for each in (first.opening, site.protocols[1].opening)] == [1, 1]


@on_each_loop
async def test_trusted_proxies_begin_with_a_header() -> None:
    site = site_of(trusted_proxies=["192.0.2.7"], proxy_protocol=True)
    assert site.expects_header(("192.0.2.7", 1))
    assert not site.expects_header(("192.0.2.8", 1))
    assert not site_of(trusted_proxies=["192.0.2.7"]).expects_header(("192.0.2.7", 1))


@on_each_loop
async def test_a_connection_may_have_an_opening_of_its_own() -> None:
    class Other(Plain):
        pass

    site = site_of()
    for opens, kind in ((None, Plain), (Other, Other)):
        protocol = Protocol(Turn(asyncio.get_running_loop()), SeatedSite(site, None, opens))
        protocol.connection_made(Transport())  # type: ignore[arg-type]
        assert type(protocol.opening) is kind


@on_each_loop
async def test_requests_are_checked_by_the_host_and_by_the_end() -> None:
    site = site_of(hosts=["example.com"], retry_after=None)
    site.check(head("example.com"), "http")
    refused = list[int]()
    for stopping, host in ((False, "other.example"), (True, "example.com")):
        site.stopping = stopping
        try:
            site.check(head(host), "http")
        except HandshakeError as error:
            refused.append(error.status)
    assert refused == [421, 503]


@on_each_loop
async def test_a_client_is_told_farewell_only_at_the_end() -> None:
    site = site_of(retry_after=None)
    assert site.farewell() is None
    site.stopping = True
    assert site.farewell() == (1001, "the server is shutting down")
