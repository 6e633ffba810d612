from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, final

from typing_extensions import Buffer

from crest.io.loop.turn import Turn
from crest.io.out.address import UserRoom
from crest.io.out.interest import Interest
from crest.io.out.outbox import Outbox
from crest.io.out.relay import Relay
from crest.io.out.tally import Tally
from crest.wire.extensions import Deflate
from crest.wire.meter import Rates

_Handler = Callable[..., Any] | None

POLICIES: tuple[str, ...]

@final
class Hub:
    @property
    def tally(self) -> Tally: ...
    on_connect: _Handler
    on_message: _Handler
    on_binary: _Handler
    on_close: _Handler
    on_error: _Handler
    on_drain: _Handler
    drains_at_once: bool
    relay: Relay | None
    def __new__(
        cls,
        *,
        max_message_size: int,
        max_fragments: int,
        max_backlog: int,
        on_backlog: str,
        max_queue: int,
        close_timeout: float,
        fanout_slice: float,
        fanout_threads: int = 1,
        send_ahead: int | None = None,
        ping_interval: float | None = None,
        ping_timeout: float | None = None,
        idle_timeout: float | None = None,
        slow_handler: float | None = None,
        rates: Rates | None = None,
        deflate: Deflate | None = None,
        user_key: str | None = None,
    ) -> Hub: ...
    @property
    def max_message_size(self) -> int: ...
    @property
    def max_fragments(self) -> int: ...
    @property
    def max_backlog(self) -> int: ...
    @property
    def on_backlog(self) -> str: ...
    @property
    def send_ahead(self) -> int: ...
    @property
    def max_queue(self) -> int: ...
    @property
    def close_timeout(self) -> float: ...
    @property
    def fanout_slice(self) -> float: ...
    @property
    def fanout_threads(self) -> int: ...
    @property
    def ping_interval(self) -> int: ...
    @property
    def ping_timeout(self) -> int: ...
    @property
    def idle_timeout(self) -> int: ...
    @property
    def slow_handler(self) -> int: ...
    @property
    def rates(self) -> Rates | None: ...
    def register(self, event: str, handler: _Handler) -> None: ...
    def variant(self, limits: Hashable, changed: Mapping[str, Any]) -> Hub: ...
    def variants(self) -> list[Hub]: ...
    def open(self, turn: Turn) -> None: ...
    def close(self) -> None: ...
    def connections(self) -> list[Any]: ...  # whatever Outbox the floor above upgrades with
    def find(self, number: int) -> Any: ...
    def connection_count(self) -> int: ...
    def room_size(self, room: str | UserRoom) -> int: ...
    def members(self, *rooms: str | UserRoom) -> list[Any]: ...
    def send_elsewhere(self, process: str, number: int, opcode: int, payload: str | Buffer, compress: bool) -> bool: ...
    def room_names(self) -> list[str]: ...
    def user_names(self) -> list[str]: ...
    def watch_rooms(self, interest: Interest | None) -> None: ...
    def deliver(
        self,
        opcode: int,
        payload: bytes,
        key: Hashable = None,
        compress: bool = True,
        to: str | UserRoom | Iterable[str | UserRoom] | None = None,
    ) -> None: ...
    def broadcast(
        self,
        text: str,
        key: Hashable = None,
        compress: bool = True,
        to: str | UserRoom | Iterable[str | UserRoom] | None = None,
        exclude: Outbox | Iterable[Outbox] | None = None,
        local: bool = False,
    ) -> None: ...
    def broadcast_binary(
        self,
        data: Buffer,
        key: Hashable = None,
        compress: bool = True,
        to: str | UserRoom | Iterable[str | UserRoom] | None = None,
        exclude: Outbox | Iterable[Outbox] | None = None,
        local: bool = False,
    ) -> None: ...
