from collections.abc import Callable
from typing import final

from crest.gap import Gap
from crest.io.loop.clock import Clock, Deadline

CAUSES: dict[str, str]

@final
class Losses(Deadline):
    def __new__(cls, clock: Clock, on_gap: Callable[[Gap], object] | None = None) -> Losses: ...
    @property
    def totals(self) -> dict[str, int]: ...
    def stop(self) -> None: ...
