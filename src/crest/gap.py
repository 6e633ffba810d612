"""Messages from other processes that are missing here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of other processes that were lost on their way to this one.

    Attributes:
        lost: How many; None: that is not known, and it may be none.
        cause: "slow": this process did not read fast enough. "queue": they could not be sent, for so long that the
            queue there was full. "exchange": the process that relays them was lost, and these with it.
        since, until: When that began and ended, in seconds of `time.monotonic()`.
        rooms: To which rooms they were; None: that is not known, or they were to all.
    """

    lost: int | None
    cause: str
    since: float
    until: float
    rooms: tuple[str, ...] | None = None
