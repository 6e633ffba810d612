from collections.abc import Hashable
from typing import TypeVar

from typing_extensions import Buffer, disjoint_base

from crest.io.hub import Hub
from crest.io.outbox import Outbox

_Class = TypeVar("_Class", bound=type[Outbox])

def with_own_methods(cls: _Class) -> _Class: ...

@disjoint_base
class Broadcaster:
    _hub: Hub
    def broadcast(self, text: str, *, key: Hashable = None, compress: bool = True) -> None: ...
    def broadcast_binary(self, data: Buffer, *, key: Hashable = None, compress: bool = True) -> None: ...
