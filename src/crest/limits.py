"""The options of a server: their types, defaults and limits, once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from crest.io.out.hub import POLICIES
from crest.options import (
    MOST_BYTES,
    MOST_COUNT,
    Rate,
    check_all,
    check_choice,
    check_count,
    check_flag,
    check_path,
    check_rate,
    check_seconds,
    check_span,
    option,
    optional,
)
from crest.wire.extensions import Deflate
from crest.wire.handshake import is_token
from crest.wire.meter import EXCESSES

MOST_THREADS = 16


def check_subprotocols(name: str, value: Sequence[str]) -> tuple[str, ...]:
    """Check names of subprotocols (RFC 6455 section 4.1)."""
    if isinstance(value, str):
        raise TypeError(f"{name} must be a sequence of names, not the str {value!r}")
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of names, not {type(value).__name__}")
    for each in value:
        if not isinstance(each, str):
            raise TypeError(f"a subprotocol must be str, not {type(each).__name__}")
        if not is_token(each):
            raise ValueError(f"not a subprotocol's name (RFC 6455 section 4.1): {each!r}")
    return tuple(value)


def check_name(name: str, value: str) -> str:
    """Check a name."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return value


def check_policy(name: str, value: str) -> str:
    """Check what happens past `max_backlog`; "drop" is the older name of a policy."""
    policy = "drop-newest" if value == "drop" else value
    if policy not in POLICIES:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, POLICIES))}, not {value!r}")
    return policy


def check_compression(name: str, value: Literal["deflate"] | Deflate | None) -> Deflate | None:
    """Check how messages are compressed."""
    if value == "deflate":
        return Deflate()
    if isinstance(value, str):
        raise ValueError(f"{name} must be 'deflate', a Deflate or None, not {value!r}")
    if value is not None and not isinstance(value, Deflate):
        raise TypeError(f"{name} must be 'deflate', a Deflate or None, not {type(value).__name__}")
    return value


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Limits:
    """The options of one server; `WebSocketServer` says what each of them means.

    Raises:
        TypeError, ValueError: An option is of the wrong type or out of range.
    """

    path: str = field(default="/ws", kw_only=False, metadata={"check": lambda _, path: check_path(path)})
    subprotocols: Sequence[str] = option((), check_subprotocols)
    origins: str | re.Pattern[str] | Sequence[str | re.Pattern[str]] = "same"
    max_connections: int | None = option(None, optional(check_count), MOST_COUNT)
    max_connections_per_ip: int | None = option(None, optional(check_count), MOST_COUNT)
    max_connect_rate_per_ip: Rate | None = option(None, check_rate)
    max_message_size: int = option(1 << 20, check_count, MOST_BYTES)
    max_fragments: int = option(1 << 17, check_count, MOST_COUNT)
    max_message_rate: Rate | None = option(None, check_rate)
    max_byte_rate: Rate | None = option(None, check_rate)
    count_inflated: bool = option(False, check_flag)
    on_rate: Literal["close", "drop", "wait"] = option("close", check_choice, EXCESSES)
    max_backlog: int = option(1 << 20, check_count, MOST_BYTES)
    on_backlog: Literal["close", "drop", "drop-newest", "drop-oldest", "latest"] = option("close", check_policy)
    max_queue: int = option(16, check_count, MOST_COUNT)
    close_timeout: float = option(10.0, check_seconds)
    ping_interval: float | None = option(20.0, check_span)
    ping_timeout: float | None = option(20.0, check_span)
    idle_timeout: float | None = option(None, check_span)
    slow_handler: float | None = option(1.0, check_span)
    compression: Literal["deflate"] | Deflate | None = option(None, check_compression)
    user_key: str | None = option(None, optional(check_name))
    fanout_slice: float = option(0.005, check_seconds)
    fanout_threads: int = option(1, check_count, MOST_THREADS)

    def __post_init__(self) -> None:
        check_all(self)
        deflate: Any = self.compression
        if self.count_inflated and self.max_byte_rate is None:
            raise ValueError("count_inflated counts against max_byte_rate, and there is none")
        if self.on_backlog == "drop-oldest" and deflate is not None and not deflate.server_no_context_takeover:
            raise ValueError("on_backlog='drop-oldest' needs Deflate(server_no_context_takeover=True)")
