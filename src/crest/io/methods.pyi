from typing import TypeVar

from crest.io.outbox import Outbox

_Class = TypeVar("_Class", bound=type[Outbox])

def with_own_methods(cls: _Class) -> _Class: ...
