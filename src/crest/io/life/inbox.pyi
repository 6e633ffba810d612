import logging
from typing import Self

from typing_extensions import disjoint_base

from crest.io.loop.turn import Turn
from crest.io.out.backlog import Owner
from crest.io.out.outbox import Outbox

logger: logging.Logger

class ErrorText(str):
    """A text for `on_error` that says what went wrong and where.

    Attributes:
        exception: what a handler raised; None when the error was the peer's.
    """

    __slots__ = ("exception",)
    exception: BaseException | None
    def __new__(cls, text: str, exception: BaseException | None = None) -> Self: ...

@disjoint_base
class Inbox(Owner):
    @property
    def turn(self) -> Turn: ...
    @property
    def connection(self) -> Outbox | None: ...  # None before the upgrade
