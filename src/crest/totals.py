"""What a server has done so far, as an application reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Totals:
    """What a server has done since it was made, from `WebSocketServer.totals()`. Each count only grows.

    Attributes:
        opened: Connections whose opening handshake was accepted.
        closed: Connections that have ended, by the code that `on_close` got; codes without one are left out.
        refused: Upgrade requests that were refused, by kind; see `WebSocketServer.refused`.
        received: Messages that have come whole, whether or not a handler was there for them.
        received_bytes: Bytes of frames that have come: compressed, headers and control frames included, without TLS.
        sent: Messages that `send` and `send_binary` accepted.
        broadcasts: Messages that were broadcast.
        deliveries: The same, once for each connection that was to get one.
        sent_bytes: Bytes of frames that were accepted for sending, those of deliveries included.
        dropped: Messages and deliveries that were lost to a slow client, by `on_backlog`. Those of "latest" that a
            newer one superseded are among them.
        discarded: Messages that were not handled because their client was over its rate, with `on_rate="drop"`.
    """

    opened: int
    closed: dict[int, int]
    refused: dict[str, int]
    received: int
    received_bytes: int
    sent: int
    broadcasts: int
    deliveries: int
    sent_bytes: int
    dropped: int
    discarded: int
