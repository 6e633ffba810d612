"""The arguments that `App.run`, `App.serve` and `App.listening` have in common: where an app listens, and how."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from ssl import SSLContext
from typing import TypedDict, TypeVar

from crest.listening.endpoint import Listen

_Function = TypeVar("_Function", bound=Callable[..., object])


class Binding(TypedDict, total=False):
    """The arguments besides host and port. One that is left out is None."""

    listen: Listen | Sequence[Listen] | None
    unix: str | os.PathLike[str] | None
    unix_mode: int | None
    certfile: str | os.PathLike[str] | None
    keyfile: str | os.PathLike[str] | None
    ssl: SSLContext | None
    open_timeout: float | None
    shutdown_timeout: float | None


def takes_binding(function: _Function) -> _Function:
    """Have the signature of a function name each argument in place of `**binding`, as a decorator."""
    plain = signature(function)
    *others, binding = plain.parameters.values()
    assert binding.kind is Parameter.VAR_KEYWORD
    shared = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=getattr(each, "__forward_arg__", each))
        for name, each in Binding.__annotations__.items()
    ]
    first = [each for each in others if each.kind is not Parameter.KEYWORD_ONLY]
    last = [each for each in others if each.kind is Parameter.KEYWORD_ONLY]
    function.__signature__ = plain.replace(parameters=[*first, *shared, *last])  # type: ignore[attr-defined]
    return function


def check_binding(function: str, binding: Mapping[str, object]) -> None:
    """Check that no argument was given that there is not.

    Raises:
        TypeError: One was.
    """
    for name in binding:
        if name not in Binding.__annotations__:
            raise TypeError(f"App.{function}() got an unexpected keyword argument {name!r}")
