"""The exceptions that crest raises on purpose, or handlers may raise. A leaf: it imports nothing of crest."""

from collections.abc import Iterable, Mapping


class CrestError(Exception):
    """Base of every exception that crest defines."""


class HandshakeError(CrestError):
    """A request that is refused, and the HTTP response that says so.

    Args:
        status: HTTP status code of the response.
        reason: What was wrong, and where. For the body and the log: values in it are shortened and escaped.
        headers: Further headers of the response, as (name, value).
    """

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, reason, headers)
        self.status = status
        self.reason = reason
        self.headers = headers

    def __str__(self) -> str:
        return self.reason


class UpgradeError(CrestError):
    """An opening handshake of a client that has failed: what the server answers opens no WebSocket.

    Args:
        reason: What was wrong, and where: values in it are shortened and escaped.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UpgradeRefused(UpgradeError):
    """An opening handshake of a client that the server has refused, or redirects: the response to it.

    Args:
        status: HTTP status code.
        reason: What the server answers, shortened and escaped.
        headers: All headers of the response, as (name, value).
        body: Its content, as far as it was read.
    """

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> None:
        super().__init__(reason)
        self.args = (status, reason, headers, body)  # so that it can be pickled
        self.status = status
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        return self.reason


class Reject(HandshakeError):
    """What `on_upgrade` raises to refuse a request: the HTTP response that the client gets.

    Args:
        status: HTTP status code of the response, 300 to 599.
        reason: Its body, as plain text unless `headers` has a Content-Type; and for the log.
        headers: Further headers of the response, as a mapping or as (name, value) pairs.

    Raises:
        TypeError: `reason` is not `str`.
        ValueError: `status` is none that refuses: it is not 300 to 599.
    """

    def __init__(
        self,
        status: int = 401,
        reason: str = "refused",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        if not isinstance(reason, str):
            raise TypeError(f"the reason of a Reject is str, not {type(reason).__name__}")
        if not 300 <= status <= 599:
            raise ValueError(f"the status of a Reject is 300 to 599, not {status}")
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        # Copies that are no subclass: methods of the application could raise, or say something else later.
        exact = tuple((str.__str__(name), str.__str__(value)) for name, value in pairs)
        super().__init__(int(status), str.__str__(reason), exact)


class ConfigurationError(CrestError):
    """An app can not run as it was put together: two servers at one path, one server in two running apps; a certificate
    without an address that speaks TLS; a server that is mounted too late, or from another thread."""


class ListenError(CrestError, OSError):
    """An address that an app was to listen on can not be bound, or its certificate can not be used."""
