from typing import Any, final

from typing_extensions import disjoint_base

from crest.io.life.host import Host
from crest.io.loop.poller import Pollable

@final
class Vigil(Pollable): ...

@disjoint_base
class Reading(Host):
    @property
    def transport(self) -> Any: ...  # asyncio.Transport; None before and after the connection
    @property
    def opening(self) -> Any: ...  # what `site.opened` returned; None once that is over
    @property
    def slot(self) -> int: ...  # in a Roster
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
