from collections.abc import Hashable

from typing_extensions import Buffer, disjoint_base

from crest.io.out.sender import Sender

@disjoint_base
class Outbox(Sender):
    """The sending side of one connection."""
    def send(self, text: str, /, *, key: Hashable = None, compress: bool = True) -> bool:
        """Send one text message (RFC 6455 section 5.6). Never blocks; may be called from any thread.

        Args:
            text: `str`.
            key: What it is the newest state of: with `on_backlog="latest"` it takes the place of an older one that was
                sent to this connection with the same key, if the client does not keep up. None: nothing takes its
                place.
            compress: False sends it as it is, on a connection that compresses too (`compression`).

        Returns:
            True when the message was accepted; False when the connection is not open any more, or the backlog policy
            (`max_backlog`, `on_backlog`) refused it.

        Raises:
            TypeError: for anything but `str`; bytes go through `send_binary`. Or `key` is not hashable.
            UnicodeEncodeError: for a lone surrogate, which UTF-8 can not carry.
        """
    def send_binary(self, data: Buffer, /, *, key: Hashable = None, compress: bool = True) -> bool:
        """Send one binary message (RFC 6455 section 5.6). Never blocks; may be called from any thread.

        Args:
            data: any bytes-like object; a mutable one may be changed as soon as the call returns.
            key, compress: see `send`.

        Returns:
            See `send`.

        Raises:
            TypeError: for anything that is not bytes-like; text goes through `send`. Or `key` is not hashable.
        """
    def ping(self) -> bool:
        """Send a ping (RFC 6455 section 5.5.2); the answer sets `latency`. May be called from any thread.

        Returns:
            True when the ping was accepted; False when the connection is not open any more, or the backlog policy
            (`max_backlog`, `on_backlog`) refused it.
        """
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake (RFC 6455 section 7.1.2). May be called from any thread.

        What was sent before still goes out. A second call, or one after the peer has started to close, does nothing.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999.
            reason: `str` of at most 123 bytes of UTF-8, for the peer.

        Raises:
            TypeError, ValueError: for a code or a reason that a close frame can not carry.
        """
    def _may_refer_to_itself(self) -> None: ...
    def is_open(self) -> bool:
        """True if messages can be sent: from `on_connect` until closing starts."""
    @property
    def discarded(self) -> int: ...
    @property
    def _number(self) -> int: ...
    @property
    def buffered(self) -> int:
        """Count the bytes that were sent and that the kernel has not taken yet. Messages that other threads sent count
        with their payload's bytes, until the loop has got to them.
        """
    @property
    def compression(self) -> str | None:
        """Return the compression that was agreed in the opening handshake: the value of the response's
        Sec-WebSocket-Extensions header (RFC 7692 section 7.1). None: messages are not compressed.
        """
    @property
    def latency(self) -> float | None:
        """Return the seconds from the last answered ping to its pong; None before the first."""
