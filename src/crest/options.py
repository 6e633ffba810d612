"""The checks of options. A leaf: it imports nothing of crest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, fields
from typing import Any

LONGEST_SPAN = 1_000_000
"""Seconds. Compiled code counts milliseconds in 32 bits."""

MOST_SECONDS = 1e9
"""Compiled code counts nanoseconds in 64 bits, and clients are told times in text."""

MOST_PORT = 65535
MOST_BYTES = (1 << 63) - 1
MOST_COUNT = (1 << 32) - 1

_PATTERN = frozenset("{}<>")
"""The characters with which other servers mark the variables of a path. No URL has them (RFC 3986 section 2)."""

LOWEST_RATE = 1e-9
HIGHEST_RATE = 1e12
"""The most a second, and the most at once. Tokens are counted in floating point: here to a ten thousandth."""

Rate = float | tuple[float, float]
"""A limit over time: how many a second, or how many a second and how many at once."""


def is_int(value: object) -> bool:
    """True if this is an int and no bool, which Python counts among ints: `True` is no limit, but a mistake."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """True if this is an int or a float, and no bool."""
    return isinstance(value, float) or is_int(value)


def check_path(path: str) -> str:
    """Check a path that requests are routed by: decoded, without a query, and no pattern, as it is compared exactly."""
    if not issubclass(type(path), str):  # isinstance() believes what an object says it is
        raise TypeError(f"path must be str, not {type(path).__name__}")
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ValueError(f"path must begin with '/' and have no query: {path!r}")
    if not _PATTERN.isdisjoint(path):
        raise ValueError(f"patterns are not supported, a path is compared exactly: {path!r}; a query may say the rest")
    return path


def check_flag(name: str, value: bool) -> bool:
    """Check an option that is on or off."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be bool, not {type(value).__name__}")
    return value


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Check an option that is one of several words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")
    return value


def check_count(name: str, value: int, most: int, *, least: int = 1) -> int:
    """Check a limit that is counted: `least` to `most`."""
    if not is_int(value):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, not {value}")
    return value


def check_seconds(name: str, value: float, *, zero: bool = False) -> float:
    """Check a time-out: more than 0, or with `zero` 0 as well."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value <= MOST_SECONDS or (value == 0 and not zero):
        raise ValueError(f"{name} must be positive and at most {MOST_SECONDS:g} s, not {value!r}")
    return value


def check_pace(name: str, value: float | None) -> float | None:
    """Check a number a second: more than 0, or None for any number."""
    if value is None:
        return None
    if not is_number(value):
        raise TypeError(f"{name} must be a number a second or None, not {type(value).__name__}")
    if not 0 < value <= HIGHEST_RATE:
        raise ValueError(f"{name} must be positive and at most {HIGHEST_RATE:g}, not {value!r}")
    return value


def check_span(name: str, value: float | None) -> float | None:
    """Check a time to watch something for: more than 0 and at most LONGEST_SPAN, or None for never."""
    if value is None:
        return None
    if check_seconds(name, value) > LONGEST_SPAN:
        raise ValueError(f"{name} must be at most {LONGEST_SPAN} s, not {value!r}; None switches it off")
    return value


def check_rate(name: str, value: Rate | None) -> tuple[float, float] | None:
    """Check a limit over time, and return how many a second and how many at once; None for no limit. By default as
    many may come at once as in a second, and 1 at least."""
    if value is None:
        return None
    pair = value if isinstance(value, tuple | list) else (value,)
    if not 1 <= len(pair) <= 2 or not all(map(is_number, pair)):
        raise TypeError(f"{name} must be a number a second, or a pair (a second, at once), not {value!r}")
    rate, burst = (*pair, max(pair[0], 1))[:2]
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"{name} must be {LOWEST_RATE:g} to {HIGHEST_RATE:g} a second, not {rate!r}")
    if not 1 <= burst <= HIGHEST_RATE:
        raise ValueError(f"{name} must allow at least 1 at once and at most {HIGHEST_RATE:g}, not {burst!r}")
    return float(rate), float(burst)


# ---- Options as fields of a frozen dataclass -------------------------------------------------------------------------

Check = Callable[[str, Any], Any]
"""Takes the name and the value of an option, and returns what it is from then on."""


def option(default: Any, check: Callable[..., Any], *limits: Any, **how: Any) -> Any:
    """Make the field of an option. `check` takes its name, its value, and the further arguments given here."""
    return field(default=default, metadata={"check": lambda name, value: check(name, value, *limits, **how)})


def optional(check: Callable[..., Any]) -> Callable[..., Any]:
    """Let a check pass None as well."""
    return lambda name, value, *limits, **how: None if value is None else check(name, value, *limits, **how)


def checks_of(options: Any) -> dict[str, Check]:
    """Return the check of each field that `option` has made, by its name."""
    return {each.name: each.metadata["check"] for each in fields(options) if "check" in each.metadata}


def check_all(options: Any) -> None:
    """Check the fields of an object, and set what their checks return.

    Raises:
        TypeError, ValueError: An option is of the wrong type or out of range.
    """
    for name, check in checks_of(options).items():
        object.__setattr__(options, name, check(name, getattr(options, name)))
