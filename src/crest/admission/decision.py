"""The decision which clients may open a WebSocket of one server, before the opening handshake is accepted.

Owns the order of the checks (origin, limits, `on_upgrade`), the count of connections that are in, and that of refusals.
Whether a request is an opening handshake at all is wire/handshake.pyx's question, and comes before.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from math import ceil
from typing import Any, Final

from crest.admission.arrivals import Arrivals
from crest.admission.origins import Origins
from crest.admission.proxies import Client, key_of
from crest.admission.seats import Full, Seat, Seats
from crest.exceptions import HandshakeError, Reject
from crest.http.messages import Request, Response, error_response
from crest.io.loop.ledger import Ledger
from crest.wire.head import RequestHead, shown

RETRY_AFTER: Final = ("Retry-After", "5")
"""Seconds; for clients that come when there are too many."""


class Refusal(HandshakeError):
    """A handshake that is in order, and refused nevertheless.

    Args:
        kind: The kind by which it is counted, see `WebSocketServer.refused`.
        status, reason, headers: As in `HandshakeError`.
    """

    def __init__(self, kind: str, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, reason, headers)
        self.kind = kind


def kind_of(error: HandshakeError) -> str:
    """Find the kind by which a refusal is counted."""
    return error.kind if isinstance(error, Refusal) else "handshake"


class Admission:
    """The conditions on which one server lets clients in.

    Args:
        origins: See `Origins`.
        max_connections: Connections that may be in at a time; None for any number.
        max_connections_per_ip: The same for one address.
        max_connect_rate_per_ip: How often a second one address may ask, and how often at once; None for any number.

    Attributes:
        refused: The number of refusals, by kind.
        is_limited: True if seats are counted.
        arrivals: How often each client has come, if that is limited; else None.
        asks: True if there is anything left to decide about a client that has the right origin.
    """

    def __init__(
        self,
        origins: str | re.Pattern[str] | Sequence[str | re.Pattern[str]],
        max_connections: int | None,
        max_connections_per_ip: int | None,
        max_connect_rate_per_ip: tuple[float, float] | None,
    ) -> None:
        self._on_upgrade: Callable[[Request], Any] | None = None
        self.refused: Counter[str] = Counter()
        self.is_limited = max_connections is not None or max_connections_per_ip is not None
        self.arrivals = None if max_connect_rate_per_ip is None else Arrivals(max_connect_rate_per_ip)
        self.asks = self.is_limited or self.arrivals is not None
        self._origins = Origins(origins)
        self._seats = Seats(max_connections, max_connections_per_ip)

    def share(self, ledger: Ledger, name: str) -> None:
        """Count together with other processes, by a name that is the same in all of them. It is empty so far."""
        self._seats.share(ledger, f"seats of {name}")
        if self.arrivals is not None:
            self.arrivals.share(ledger, f"arrivals of {name}")

    @property
    def on_upgrade(self) -> Callable[[Request], Any] | None:
        """The application's decision, or None."""
        return self._on_upgrade

    @on_upgrade.setter
    def on_upgrade(self, handler: Callable[[Request], Any]) -> None:
        self._on_upgrade = handler
        self.asks = True

    def check_origin(self, origin: str, head: RequestHead, scheme: str) -> None:
        """Refuse pages of other origins than the allowed ones. A client that sends no Origin is no browser.

        Raises:
            Refusal: 403.
        """
        host = head.joined(b"Host") or ""
        if not self._origins.allow(origin, host, scheme):
            text = f"the origin {shown(origin)} is not allowed to connect to {shown(host)}"
            raise Refusal("origin", 403, f"{text}: it is not among origins= of the WebSocketServer")

    # ---- Limits --------------------------------------------------------------------------------------------------

    def check_pace(self, arrivals: Arrivals, client: Client | None) -> None:
        """Refuse a client that comes too often. One without an address may.

        Raises:
            Refusal: 429, and when to come back.
        """
        if client is not None:
            key = key_of(client)
            seconds = arrivals.wait(key)
            if seconds:
                retry_after = ("Retry-After", f"{ceil(seconds)}")
                raise Refusal("max_connect_rate_per_ip", 429, f"{key} connects too often", (retry_after,))

    def take_seat(self, client: Client | None) -> Seat:
        """Count one more connection, from now until it leaves its seat.

        Raises:
            Refusal: There are too many: 503, or 429 if they are of one address. 503 is the server's state, and a load
                balancer may go elsewhere; 429 is the client's own doing.
        """
        try:
            return self._seats.take(client)
        except Full as full:
            if full.key is None:
                raise Refusal("max_connections", 503, "there are too many connections", (RETRY_AFTER,)) from None
            text = f"there are too many connections from {full.key}"
            raise Refusal("max_connections_per_ip", 429, text, (RETRY_AFTER,)) from None

    # ---- The application's decision ------------------------------------------------------------------------------

    def ask(self, request: Request) -> tuple[Any, bool]:
        """Call `on_upgrade`. Returns the user, or an awaitable of the user, and True if it is an awaitable.

        Raises:
            Refusal: It rejects the request, or fails.
        """
        if self._on_upgrade is None:
            return None, False
        try:
            user = self._on_upgrade(request)
            return (user, True) if isawaitable(user) else (checked_user(user), False)
        except BaseException as error:  # SystemExit, too: no handler stops the server
            refusal = refusal_by(error)
            raise refusal from refusal.__cause__

    async def answer(self, awaitable: Awaitable[Any]) -> Any:
        """Await the user from what an async `on_upgrade` returned.

        Raises:
            Refusal: As in `ask`.
        """
        try:
            return checked_user(await awaitable)
        except BaseException as error:
            try:
                task = asyncio.current_task()
            except RuntimeError:  # this process was forked from the loop's
                task = None
            if task is not None and task.cancelling():
                raise  # the opening does not wait for it any more
            refusal = refusal_by(error)
            raise refusal from refusal.__cause__


def checked_user(user: Any) -> Any:
    """Check and return the user that `on_upgrade` returned.

    Raises:
        TypeError: It is a refusal, which must be raised: returned, it would let the client in.
    """
    if user is Reject or isinstance(user, HandshakeError | Response):
        raise TypeError(f"on_upgrade returned {user!r}, which is no user: to refuse a client, raise Reject")
    return user


def refusal_by(error: BaseException) -> Refusal:
    """Make the refusal that an exception of `on_upgrade` means. It has a cause if the fault is not the client's."""
    if isinstance(error, Reject):
        try:
            error_response(error)
        except (TypeError, ValueError) as wrong:  # headers or a text that HTTP does not allow
            error = wrong
        else:
            return Refusal("on_upgrade", error.status, error.reason, error.headers)
    refusal = Refusal("error", 500, "internal server error")
    refusal.__cause__ = error
    return refusal
