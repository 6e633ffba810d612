"""crest.listening.binding: one list of arguments, which three methods of App have."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from crest import App
from crest.listening.binding import Binding, takes_binding

OWN = {"run": {"workers", "loop", "log_level"}, "serve": set(), "listening": {"direct"}}


@pytest.mark.parametrize("name", OWN)
def test_signatures_have_the_whole_list(name: str) -> None:
    parameters = inspect.signature(getattr(App, name)).parameters
    assert list(parameters)[:3] == ["self", "host", "port"]
    assert set(parameters) == {"self", "host", "port", *Binding.__annotations__, *OWN[name]}
    assert all(parameters[each].default is None for each in Binding.__annotations__)
    assert all(each.kind is each.KEYWORD_ONLY for each in list(parameters.values())[3:])


def test_one_more_argument_is_one_more_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Binding.__annotations__, "backlog", "int | None")

    @takes_binding
    def listens(host: str, *, own: bool = False, **binding: Any) -> None: ...

    names = list(inspect.signature(listens).parameters)
    assert names == ["host", *Binding.__annotations__, "own"] and "backlog" in names


CALLS: dict[str, Callable[[App], object]] = {
    "run": lambda app: app.run(port=0, prot=1),  # type: ignore[call-arg]
    "serve": lambda app: asyncio.run(app.serve(port=0, prot=1)),  # type: ignore[call-arg]
    "listening": lambda app: asyncio.run(app.listening(prot=1).__aenter__()),  # type: ignore[call-arg,arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_a_name_that_there_is_not_is_an_error(name: str) -> None:
    with pytest.raises(TypeError, match=rf"App\.{name}\(\) got an unexpected keyword argument 'prot'"):
        CALLS[name](App())
