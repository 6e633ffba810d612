from typing import final

_Rate = tuple[float, float]

EXCESSES: tuple[str, ...]

@final
class Rates:
    def __new__(
        cls,
        max_message_rate: _Rate | None = None,
        max_byte_rate: _Rate | None = None,
        count_inflated: bool = False,
        on_rate: str = "close",
    ) -> Rates: ...
    @property
    def count_inflated(self) -> bool: ...
    @property
    def max_message_rate(self) -> _Rate | None: ...
    @property
    def max_byte_rate(self) -> _Rate | None: ...

@final
class Meter:
    def __new__(cls, rates: Rates, now: int = 0) -> Meter: ...
    def refill(self, now: int) -> None: ...
    def excuse(self, now: int) -> None: ...
