import logging
from typing import Any, Self

class ErrorText(str):
    """A text for `on_error` that says what went wrong and where.

    Attributes:
        exception: what a handler raised; None when the error was the peer's.
    """

    __slots__ = ("exception",)
    exception: BaseException | None
    def __new__(cls, text: str, exception: BaseException | None = None) -> Self: ...

logger: logging.Logger

def isawaitable(object: Any) -> bool: ...
