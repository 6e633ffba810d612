"""crest.options: what an option must be, and that the error names it."""

import math
import re
from inspect import signature
from typing import Any

import pytest

from crest import App, Deflate, WebSocketServer
from crest.options import (
    check_count,
    check_flag,
    check_pace,
    check_path,
    check_rate,
    check_seconds,
    check_span,
    optional,
)

NUMBERS = [
    (made, name)
    for made in (App, WebSocketServer, Deflate)
    for name, option in signature(made).parameters.items()
    if re.search(r"\b(int|float|Rate)\b", str(option.annotation))
]
"""Every option that is a number, or may be one."""


@pytest.mark.parametrize("path", ["/", "/ws", "/a/b c/é"])
def test_a_path(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize("path", ["", "ws", "/ws?a=1", "/ws#top"])
def test_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="path must begin with '/'"):
        check_path(path)


@pytest.mark.parametrize("path", ["/rooms/{room}", "/{", "/a}", "/rooms/<room>", "/<int:room>"])
@pytest.mark.parametrize(
    "where",
    [
        WebSocketServer,
        lambda path: App().mount(path, WebSocketServer()),
        lambda path: App().get(path),
        lambda path: App().static(path, "."),
    ],
)
def test_a_path_is_no_pattern(path: str, where: Any) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"patterns are not supported, a path is compared exactly: {path!r}")
    ):
        where(path)


def test_a_path_is_str() -> None:
    with pytest.raises(TypeError, match="path must be str, not bytes"):
        check_path(b"/ws")  # type: ignore[arg-type]


def test_a_flag() -> None:
    assert check_flag("option", True) is True
    assert check_flag("option", False) is False


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_a_flag_is_bool(value: Any) -> None:
    with pytest.raises(TypeError, match=f"option must be bool, not {type(value).__name__}"):
        check_flag("option", value)


@pytest.mark.parametrize("value", [1, 7])
def test_a_count(value: int) -> None:
    assert check_count("limit", value, 7) == value


@pytest.mark.parametrize(("value", "text"), [(0, "at least 1, not 0"), (-1, "at least 1"), (8, "at most 7, not 8")])
def test_no_count(value: int, text: str) -> None:
    with pytest.raises(ValueError, match=f"limit must be {text}"):
        check_count("limit", value, 7)


def test_a_count_from_another_least() -> None:
    assert check_count("limit", 0, 7, least=0) == 0
    assert check_count("limit", 5, 7, least=5) == 5
    with pytest.raises(ValueError, match="limit must be at least 5, not 4"):
        check_count("limit", 4, 7, least=5)


@pytest.mark.parametrize("value", [1.5, "1", None, True])
def test_a_count_is_int(value: Any) -> None:
    with pytest.raises(TypeError, match="limit must be int"):
        check_count("limit", value, 7)


def test_a_count_that_may_be_left_out() -> None:
    assert optional(check_count)("limit", None, 7) is None
    assert optional(check_count)("limit", 7, 7) == 7
    with pytest.raises(ValueError, match="limit must be at most 7"):
        optional(check_count)("limit", 8, 7)


@pytest.mark.parametrize("value", [1, 0.5, 1e9])
def test_seconds(value: float) -> None:
    assert check_seconds("time", value) == value


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e10, pytest.param(10**400, id="huge")])
def test_no_seconds(value: float) -> None:
    with pytest.raises(ValueError, match="time must be positive"):
        check_seconds("time", value)


def test_no_time_at_all_where_it_makes_sense() -> None:
    assert check_seconds("time", 0, zero=True) == 0


@pytest.mark.parametrize("value", ["1", None, [1], True, False])
def test_seconds_are_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match="time must be a number of seconds"):
        check_seconds("time", value)


@pytest.mark.parametrize("value", [1, 0.5, None])
def test_a_pace(value: float | None) -> None:
    assert check_pace("pace", value) == value


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1e13, pytest.param(10**400, id="huge")])
def test_no_pace(value: float) -> None:
    with pytest.raises(ValueError, match="pace must be positive"):
        check_pace("pace", value)


@pytest.mark.parametrize("value", ["1", True])
def test_a_pace_is_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match=f"pace must be a number a second or None, not {type(value).__name__}"):
        check_pace("pace", value)


def test_a_span_is_a_number() -> None:
    with pytest.raises(TypeError, match="span must be a number of seconds, not bool"):
        check_span("span", True)


@pytest.mark.parametrize(
    ("value", "pair"),
    [(None, None), (10, (10, 10)), (0.2, (0.2, 1)), (2.5, (2.5, 2.5)), ((10, 30), (10, 30)), ([0.5, 2], (0.5, 2))],
)
def test_a_rate(value: Any, pair: tuple[float, float] | None) -> None:
    assert check_rate("rate", value) == pair


@pytest.mark.parametrize(
    "value", ["10", "ab", (1, 2, 3), (), (1, None), True, (5, True), {1: 2}, b"ab", object], ids=repr
)
def test_no_rate(value: Any) -> None:
    with pytest.raises(TypeError, match=r"rate must be a number a second, or a pair \(a second, at once\), not "):
        check_rate("rate", value)


@pytest.mark.parametrize("value", [0, -1, 5e-324, math.nan, math.inf, 1e13, (0, 5), (math.nan, 5)])
def test_a_rate_is_positive(value: Any) -> None:
    with pytest.raises(ValueError, match=r"rate must be 1e-09 to 1e\+12 a second, not "):
        check_rate("rate", value)


@pytest.mark.parametrize("value", [(5, 0.5), (5, 0), (5, -1), (5, math.nan), (5, math.inf)])
def test_at_least_one_may_come_at_once(value: Any) -> None:
    with pytest.raises(ValueError, match=r"rate must allow at least 1 at once and at most 1e\+12, not "):
        check_rate("rate", value)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(("made", "name"), NUMBERS)
def test_what_is_on_or_off_is_no_number(made: Any, name: str, value: bool) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be "):
        made(**{name: value})


def test_numbers_are_found_among_the_options() -> None:
    assert {"max_connections", "max_byte_rate", "ping_interval", "max_backlog_total", "level"} <= {
        name for _, name in NUMBERS
    }
