"""permessage-deflate in the opening handshake (RFC 7692 sections 5 and 7.1): what a client offers, and what a server
wants -> what both do from then on. On the client's side, its offer, and what the server has made of it.

It knows the four parameters and what they may be, and neither HTTP nor zlib: handshake.py takes the header apart, and
deflate.pyx compresses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crest.exceptions import UpgradeError
from crest.options import check_count, check_flag
from crest.wire.head import shown

NAME: Final = "permessage-deflate"

SERVER_NO_CONTEXT_TAKEOVER: Final = "server_no_context_takeover"
CLIENT_NO_CONTEXT_TAKEOVER: Final = "client_no_context_takeover"
SERVER_MAX_WINDOW_BITS: Final = "server_max_window_bits"
CLIENT_MAX_WINDOW_BITS: Final = "client_max_window_bits"

LEAST_BITS: Final = 9
"""The smallest window that zlib compresses with. The RFC has 8 too."""

MOST_BITS: Final = 15

_BITS: Final = re.compile(r"[89]|1[0-5]")  # sections 7.1.2.1 and 7.1.2.2: decimal, without leading zeros

Extension = tuple[str, Sequence[tuple[str, str | None]]]
"""An extension that is offered or accepted: its name, and its parameters as (name, value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """How a server compresses messages (permessage-deflate, RFC 7692).

    Without context takeover each message is compressed for itself: an idle connection needs no memory for it, and a
    broadcast is compressed once for everybody. With it a message may refer to those before: small messages that are
    alike become smaller still, and each connection has its windows for as long as it is open.

    A client that asks for smaller windows, or for no takeover, gets that.

    Args:
        server_no_context_takeover: True: the server compresses without context takeover.
        client_no_context_takeover: True: clients must do the same. It is the one parameter that the response has
            without an offer of it, and some clients refuse or overlook it. False: clients may take over their context,
            and the server keeps a window for each that does.
        server_max_window_bits: The window that the server compresses with is 2 to the power of this, in bytes: 9 to 15.
        client_max_window_bits: The same of clients. Below 15, a client that does not offer `client_max_window_bits`
            gets no compression.
        level: 1 (fastest) to 9 (smallest).
        memory_level: What compressing takes besides its window is 2 to the power of this plus 9, in bytes: 1 to 9.
        threshold: Bytes of UTF-8 or of binary data; a shorter message is sent as it is.

    Raises:
        TypeError, ValueError: An argument is of the wrong type or out of range.
    """

    server_no_context_takeover: bool = True
    client_no_context_takeover: bool = True
    server_max_window_bits: int = MOST_BITS
    client_max_window_bits: int = MOST_BITS
    level: int = 3
    memory_level: int = 5
    threshold: int = 128

    def __post_init__(self) -> None:
        check_flag(SERVER_NO_CONTEXT_TAKEOVER, self.server_no_context_takeover)
        check_flag(CLIENT_NO_CONTEXT_TAKEOVER, self.client_no_context_takeover)
        check_count(SERVER_MAX_WINDOW_BITS, self.server_max_window_bits, MOST_BITS, least=LEAST_BITS)
        check_count(CLIENT_MAX_WINDOW_BITS, self.client_max_window_bits, MOST_BITS, least=LEAST_BITS)
        check_count("level", self.level, 9)
        check_count("memory_level", self.memory_level, 9)
        check_count("threshold", self.threshold, (1 << 63) - 1, least=0)


@dataclass(frozen=True, slots=True)
class Agreement:
    """The terms that a client and the server have agreed on.

    Attributes:
        server_no_context_takeover: Whether the server compresses each message for itself.
        client_no_context_takeover: Whether the client does.
        server_max_window_bits: Of the server's window, 8 to 15; crest's own servers have 9 or more.
        client_max_window_bits: Of the client's window, 8 to 15.
        response: The value of the response's Sec-WebSocket-Extensions header.
    """

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int
    response: str


def negotiate(offers: Sequence[Extension], options: Deflate) -> Agreement | None:
    """Accept the first offer of permessage-deflate that can be met, as section 5 recommends.

    By section 7 an offer is declined that has an unknown parameter, one twice, or one with a value that it can not
    have. That is no malformed header, which would fail the handshake: a client may offer what a later specification
    defines, and this one behind it.

    Args:
        offers: All extensions that the client offers, the preferred one first.
        options: What the server wants.

    Returns:
        None when no offer can be met.
    """
    for name, params in offers:
        if name == NAME:
            agreed = _accept(params, options)
            if agreed is not None:
                return agreed
    return None


def _accept(params: Sequence[tuple[str, str | None]], options: Deflate) -> Agreement | None:
    """Meet one offer, or return None."""
    offer = dict(params)
    if len(offer) != len(params) or not all(_is_valid(name, value) for name, value in params):
        return None
    server_bits = min(int(offer.get(SERVER_MAX_WINDOW_BITS) or MOST_BITS), options.server_max_window_bits)
    client_bits = min(int(offer.get(CLIENT_MAX_WINDOW_BITS) or MOST_BITS), options.client_max_window_bits)
    if server_bits < LEAST_BITS:
        return None
    if client_bits < MOST_BITS and CLIENT_MAX_WINDOW_BITS not in offer:  # then the response must not have it either
        return None
    # A client that offers not to take over its context will not, whatever the response says (section 7.1.1.2).
    server_resets = options.server_no_context_takeover or SERVER_NO_CONTEXT_TAKEOVER in offer
    client_resets = options.client_no_context_takeover or CLIENT_NO_CONTEXT_TAKEOVER in offer
    # Some clients fail where the response has what they did not offer. A server may compress without its context, and
    # with a smaller window, without saying so: a client that keeps a larger one can read it all the same.
    response = [NAME]
    if SERVER_NO_CONTEXT_TAKEOVER in offer:
        response.append(SERVER_NO_CONTEXT_TAKEOVER)
    if client_resets:
        response.append(CLIENT_NO_CONTEXT_TAKEOVER)
    if SERVER_MAX_WINDOW_BITS in offer:
        response.append(f"{SERVER_MAX_WINDOW_BITS}={server_bits}")
    if client_bits < MOST_BITS:
        response.append(f"{CLIENT_MAX_WINDOW_BITS}={client_bits}")
    return Agreement(server_resets, client_resets, server_bits, client_bits, "; ".join(response))


def offer(options: Deflate) -> str:
    """Write the offer of a client (section 7.1): the value of the request's Sec-WebSocket-Extensions header.

    The client then compresses as `options` say, or as the server limits it. Of the server it asks the same.
    """
    params = [NAME]
    if options.server_no_context_takeover:
        params.append(SERVER_NO_CONTEXT_TAKEOVER)
    if options.client_no_context_takeover:
        params.append(CLIENT_NO_CONTEXT_TAKEOVER)
    if options.server_max_window_bits < MOST_BITS:
        params.append(f"{SERVER_MAX_WINDOW_BITS}={options.server_max_window_bits}")
    # Without this one, a server may not limit the client's window.
    bits = options.client_max_window_bits
    params.append(CLIENT_MAX_WINDOW_BITS if bits == MOST_BITS else f"{CLIENT_MAX_WINDOW_BITS}={bits}")
    return "; ".join(params)


def conclude(accepted: Sequence[Extension], options: Deflate | None, response: str) -> Agreement | None:
    """Find what a server has accepted of what a client offers.

    Args:
        accepted: All extensions in the response.
        options: Of the `offer`; None: nothing was offered.
        response: The value of the response's header.

    Raises:
        UpgradeError: The response is none to this offer: the client must fail the connection (sections 5 and 7.1).
    """
    agreed = None
    for name, params in accepted:
        if options is None or name != NAME:
            raise UpgradeError(f"the server accepts an extension that was not offered: {shown(name)}")
        if agreed is not None:
            raise UpgradeError(f"the server accepts {NAME} twice")
        agreed = _conclude(params, options, response)
    return agreed


def _conclude(params: Sequence[tuple[str, str | None]], options: Deflate, response: str) -> Agreement:
    """Read the parameters of the response."""
    accepted = dict(params)
    if len(accepted) != len(params):
        raise UpgradeError(f"the server accepts {NAME} with a parameter twice")
    for name, value in params:
        if not _is_valid(name, value) or (name == CLIENT_MAX_WINDOW_BITS and value is None):
            told = name if value is None else f"{name}={value}"
            raise UpgradeError(f"the server accepts {NAME} with {shown(told)}, which no response may have")
    if options.server_no_context_takeover and SERVER_NO_CONTEXT_TAKEOVER not in accepted:
        raise UpgradeError(f"the server accepts {NAME} without {SERVER_NO_CONTEXT_TAKEOVER}, which was asked for")
    server_bits = int(accepted.get(SERVER_MAX_WINDOW_BITS) or MOST_BITS)
    if server_bits > options.server_max_window_bits:
        raise UpgradeError(f"the server has a window of {server_bits} bits, over {options.server_max_window_bits}")
    client_bits = int(accepted.get(CLIENT_MAX_WINDOW_BITS) or options.client_max_window_bits)
    if client_bits > options.client_max_window_bits:  # an offer with a value admits that, or less (section 7.1.2.2)
        raise UpgradeError(f"the server allows a window of {client_bits} bits, over {options.client_max_window_bits}")
    return Agreement(
        SERVER_NO_CONTEXT_TAKEOVER in accepted,
        options.client_no_context_takeover or CLIENT_NO_CONTEXT_TAKEOVER in accepted,
        server_bits,
        client_bits,
        response,
    )


def _is_valid(name: str, value: str | None) -> bool:
    """True if an offer may have this parameter with this value (section 7.1). A response may not have all of them."""
    if name in (SERVER_NO_CONTEXT_TAKEOVER, CLIENT_NO_CONTEXT_TAKEOVER):
        return value is None
    if value is None:
        return name == CLIENT_MAX_WINDOW_BITS
    return name in (SERVER_MAX_WINDOW_BITS, CLIENT_MAX_WINDOW_BITS) and _BITS.fullmatch(value) is not None
