import logging
from collections.abc import Callable
from typing import Any

logger: logging.Logger

def unwrap(func: Callable[..., Any], *, stop: Callable[[Any], Any] | None = None) -> Any: ...
