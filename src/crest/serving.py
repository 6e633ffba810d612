"""The options of an app: their types, defaults and limits, once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from crest.admission.hosts import Hosts
from crest.admission.proxies import Address, Network, TrustedProxies
from crest.options import (
    MOST_BYTES,
    MOST_COUNT,
    check_all,
    check_choice,
    check_count,
    check_flag,
    check_pace,
    check_seconds,
    option,
    optional,
)

MOST_HEADER = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Serving:
    """The options of one app; `App` says what each of them means.

    Attributes:
        served_hosts: The hosts that `hosts` lists; None: any.
        proxies: The proxies of `trusted_proxies`; None: there are none.

    Raises:
        TypeError, ValueError: An option is of the wrong type or out of range.
    """

    open_timeout: float = option(10.0, check_seconds)
    keep_alive_timeout: float = option(75.0, check_seconds)
    shutdown_timeout: float = option(10.0, check_seconds, zero=True)
    close_rate: float | None = option(1000.0, check_pace)
    retry_after: float | None = option(2.0, optional(check_seconds), zero=True)
    close_codes: Literal["registered", "rfc6455"] = option("registered", check_choice, ("registered", "rfc6455"))
    keep_listening: bool = option(True, check_flag)
    max_header_size: int = option(16384, check_count, MOST_HEADER)
    max_headers: int = option(100, check_count, MOST_HEADER)
    hosts: Iterable[str] | None = None
    page_timeout: float | None = option(60.0, optional(check_seconds))
    max_sockets_per_ip: int | None = option(None, optional(check_count), MOST_COUNT)
    max_tls_handshakes: int | None = option(2048, optional(check_count), MOST_COUNT)
    max_tls_handshakes_per_ip: int | None = option(256, optional(check_count), MOST_COUNT)
    max_backlog_total: int | None = option(1 << 30, optional(check_count), MOST_BYTES)
    trusted_proxies: Iterable[str | Address | Network] = ()
    forwarded_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    proxy_protocol: bool = option(False, check_flag)
    served_hosts: Hosts | None = field(init=False)
    proxies: TrustedProxies | None = field(init=False)

    def __post_init__(self) -> None:
        check_all(self)
        object.__setattr__(self, "served_hosts", None if self.hosts is None else Hosts(self.hosts))
        object.__setattr__(self, "proxies", TrustedProxies(self.trusted_proxies, self.forwarded_header) or None)
        if self.proxy_protocol and self.proxies is None:
            raise ValueError(
                "proxy_protocol needs trusted_proxies: the header is taken from those, and from nobody else"
            )
