"""crest.serving: the options of an app are listed once, checked, and fixed from then on."""

import inspect
from dataclasses import FrozenInstanceError, dataclass, fields

import pytest

from crest import App
from crest.options import check_count
from crest.serving import Serving, option


def test_an_app_takes_them_all_by_name() -> None:
    parameters = inspect.signature(App).parameters
    assert list(parameters) == [each.name for each in fields(Serving) if each.init]
    assert {each.kind for each in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_one_more_is_one_line() -> None:
    @dataclass(frozen=True, kw_only=True, eq=False, repr=False)
    class More(Serving):
        max_rooms: int = option(10, check_count, 1000)

    class MoreApp(App, More):
        """As App would be with that line."""

    assert MoreApp().max_rooms == 10 and MoreApp(max_rooms=20, open_timeout=1).max_rooms == 20
    with pytest.raises(ValueError, match="max_rooms must be at most 1000, not 2000"):
        MoreApp(max_rooms=2000)


def test_each_is_checked() -> None:
    """But for those from which objects are made that check them."""
    unchecked = {each.name for each in fields(Serving) if each.init and "check" not in each.metadata}
    assert unchecked == {"hosts", "trusted_proxies", "forwarded_header"}
    for name in inspect.signature(App).parameters:
        with pytest.raises((TypeError, ValueError), match=name):
            App(**{name: object()})


def test_they_are_fixed() -> None:
    app = App()
    with pytest.raises(FrozenInstanceError, match="open_timeout"):
        app.open_timeout = 1.0  # type: ignore[misc]
    app.rooms = {}  # type: ignore[attr-defined]  # what is the application's own is not


def test_apps_are_equal_to_themselves_alone() -> None:
    assert App() != App() and len({App(), App()}) == 2
