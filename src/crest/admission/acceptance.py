"""`Accept`: the answer of `on_upgrade` that lets a client in and sets limits for its connection."""

from __future__ import annotations

from types import EllipsisType
from typing import Final, Generic, Literal

from crest.connection import User
from crest.limits import Limits
from crest.options import Rate, checks_of

CHECKS: Final = checks_of(Limits)


class Accept(Generic[User]):
    """A client that `on_upgrade` lets in: the user, and limits of this connection alone.

    Each limit means what the argument of `WebSocketServer` of that name does, and takes its place for this connection.
    If it is left out, or `...`, the server's limit holds.

    Args:
        user: The value of `conn.user`.
        max_message_size: Bytes that a message of the client may have.
        max_queue: Messages of the client that may wait for an async handler.
        max_backlog: Bytes that may wait for the client. The newest values of keys (`on_backlog="latest"`) have the
            server's bound all the same.
        max_message_rate: Messages a second, or a pair of that and of how many at once; None: any number.
        max_byte_rate: The same for bytes.
        on_rate: What happens past these: "close", "drop" or "wait".
        ping_interval, ping_timeout, idle_timeout: Seconds; None: never, or any number.

    Attributes:
        limits: The limits that were given, checked, by name.

    Raises:
        TypeError, ValueError: A limit is of the wrong type or out of range.
    """

    __slots__ = ("limits", "user")

    def __init__(
        self,
        user: User = None,  # type: ignore[assignment]  # then User is what the application says
        *,
        max_message_size: int | EllipsisType = ...,
        max_queue: int | EllipsisType = ...,
        max_backlog: int | EllipsisType = ...,
        max_message_rate: Rate | EllipsisType | None = ...,
        max_byte_rate: Rate | EllipsisType | None = ...,
        on_rate: Literal["close", "drop", "wait"] | EllipsisType = ...,
        ping_interval: float | EllipsisType | None = ...,
        ping_timeout: float | EllipsisType | None = ...,
        idle_timeout: float | EllipsisType | None = ...,
    ) -> None:
        self.user: User = user
        given = {
            "max_message_size": max_message_size,
            "max_queue": max_queue,
            "max_backlog": max_backlog,
            "max_message_rate": max_message_rate,
            "max_byte_rate": max_byte_rate,
            "on_rate": on_rate,
            "ping_interval": ping_interval,
            "ping_timeout": ping_timeout,
            "idle_timeout": idle_timeout,
        }
        self.limits = {name: CHECKS[name](name, value) for name, value in given.items() if value is not ...}

    def __repr__(self) -> str:
        limits = "".join(f", {name}={value!r}" for name, value in self.limits.items())
        return f"Accept({self.user!r}{limits})"
