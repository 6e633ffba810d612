"""What a server may be like: transports, loops, kinds of handlers, compression, policies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crest import Deflate

ASKS = "permessage-deflate; client_max_window_bits"


class Suite(NamedTuple):
    """Cases that one process runs one after the other.

    Attributes:
        place: Where other code runs, or hostile objects are put.
        what: What is done meanwhile, or what they do.
    """

    scenario: str
    place: str
    what: str

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True)
class Scenario:
    """One kind of server.

    Attributes:
        transport: "tcp", "tls" or "unix".
        loop: "asyncio" or "uvloop".
        direct: Transports of crest's own, and not the loop's.
        handlers: "plain" or "async".
        upgrade: What decides about upgrades, "plain" or "async"; "": nothing.
        extensions: What clients offer.
        drops: The policy leaves messages out for slow clients.
        tasks: How many the server itself has.
        spare: Descriptors that may be opened in passing.
        watches: There are handlers for errors and for drained connections.
        kept: Descriptors that the loop keeps until it is closed: libuv's for when there are no more.
        crowd: How many clients there are beside those that a case is about.
        threads: How many send beside the loop's own.
        before: What clients send first of all.
    """

    name: str
    transport: str = "tcp"
    loop: str = "asyncio"
    direct: bool = True
    handlers: str = "plain"
    upgrade: str = ""
    extensions: str | None = None
    server: dict[str, Any] = field(default_factory=dict)
    app: dict[str, Any] = field(default_factory=dict)
    drops: bool = False
    tasks: int = 0
    spare: int = 0
    kept: int = 0
    watches: bool = False
    crowd: int = 0
    threads: int = 0
    before: bytes = b""


LIMITS = {"max_connections": 1000, "max_connections_per_ip": 1000}
TIMES = {"close_timeout": 1.0}


def scenario(name: str, *, policy: str = "close", **options: Any) -> Scenario:
    """One with time-outs that tests can wait for, and limits that count but do not bind."""
    server = {**TIMES, **LIMITS, "on_backlog": policy, "max_backlog": 1 << 24, **options.pop("server", {})}
    app = {"open_timeout": 5.0, "shutdown_timeout": 2.0, "close_rate": None, **options.pop("app", {})}
    return Scenario(name, server=server, app=app, **options)


TAKEOVER = Deflate(server_no_context_takeover=False, client_no_context_takeover=False, threshold=0)
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
HEADER = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True, "max_sockets_per_ip": 1000}
DROPPING: dict[str, Any] = {"max_backlog": 60_000, "send_ahead": 1 << 30}
"""Answers that the cases wait for are with the kernel before they could be dropped."""

SCENARIOS: dict[str, Scenario] = {
    each.name: each
    for each in [
        scenario("plain"),
        scenario("unix", transport="unix"),
        scenario("tls", transport="tls", spare=4),
        scenario("loop", direct=False),
        scenario("loop-tls", transport="tls", direct=False, tasks=64, spare=4),
        scenario("uvloop", loop="uvloop", spare=4),
        scenario("uvloop-loop", loop="uvloop", direct=False, spare=4, kept=1),
        scenario("async", handlers="async"),
        scenario("upgrade", upgrade="plain", server={"user_key": "name"}),
        scenario("watching", upgrade="plain", watches=True, server={"user_key": "name"}),
        scenario("async-upgrade", upgrade="async", handlers="async", server={"user_key": "name"}),
        scenario("deflate", extensions=ASKS, server={"compression": Deflate(threshold=0)}),
        scenario("takeover", extensions=ASKS, server={"compression": TAKEOVER}),
        scenario("tls-deflate", transport="tls", extensions=ASKS, tasks=64, spare=4,
                 server={"compression": Deflate(threshold=0)}),
        scenario("async-deflate", extensions=ASKS, handlers="async", server={"compression": "deflate"}),
        scenario("small-backlog", server={"max_backlog": 60_000}),
        scenario("drop-newest", policy="drop-newest", drops=True, server=DROPPING),
        scenario("drop-oldest", policy="drop-oldest", drops=True, server=DROPPING),
        scenario("latest", policy="latest", drops=True, server={"max_backlog": 60_000}),
        scenario("rates", server={"max_message_rate": (1000, 1000), "idle_timeout": 60}),
        scenario("proxied", app={"trusted_proxies": ["10.0.0.1"]}),
        scenario("header", app=HEADER, before=V1),
        scenario("header-tls", app=HEADER, before=V1, transport="tls", spare=4),
        scenario("header-loop-tls", app=HEADER, before=V1, transport="tls", direct=False, tasks=64, spare=4),
        scenario("crew", crowd=300, server={"fanout_threads": 2}),
        scenario("threads", threads=2),
        scenario("threads-tls", threads=2, transport="tls", tasks=64, spare=4),
        scenario("total", app={"max_backlog_total": 100_000}),
    ]
}  # fmt: skip
