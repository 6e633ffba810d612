"""What crest raises on purpose. A leaf: it imports nothing of crest."""


class CrestError(Exception):
    """Base of every exception that crest defines."""


class HandshakeError(CrestError):
    """A request that is refused, and the HTTP response that says so. Always the peer's fault.

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


class ConfigurationError(CrestError):
    """What was put together can not run: two servers at one path, or one server in two running apps."""


class ListenError(CrestError, OSError):
    """An address that an app was to listen on can not be bound."""
