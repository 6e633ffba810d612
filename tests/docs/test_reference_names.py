"""docs/reference.md has the public names, with their signatures and defaults."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest
from support.documents import READ, slug

import crest
from crest import App, WebSocketServer

REFERENCE, REFERENCE_FENCES = READ["docs/reference.md"]
SIGNATURES = {fence.section: fence.code for fence in reversed(REFERENCE_FENCES) if fence.language == "text"}
CLASSES = [getattr(crest, name) for name in crest.__all__ if name != "__version__"]
ENUMS = [each for each in CLASSES if issubclass(each, IntEnum)]
OTHERS = [each for each in CLASSES if each not in ENUMS]


def members(cls: type) -> dict[str, Any]:
    """The public members of a class that are crest's own."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("crest")]
    return {name: value for base in own for name, value in vars(base).items() if not name.startswith("_")}


def normalized(signature: str) -> str:
    waits = "async " if signature.startswith("await ") else ""
    defined = f"{waits}def {signature.removeprefix('await ').strip()}: pass"
    return ast.unparse(ast.parse(defined)).replace("=Ellipsis", "=...")


def actual(name: str, function: Callable[..., Any]) -> str:
    """The signature as the reference writes it: without annotations, without self, and with await if it needs it."""
    waits = "await " if inspect.iscoroutinefunction(function) else ""
    signature = inspect.signature(function)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values() if each.name != "self"]
    return waits + name + str(signature.replace(parameters=bare, return_annotation=signature.empty))


def constructed() -> list[type]:
    """The classes whose constructor is of interest: not those that only crest calls."""
    return [
        each
        for each in OTHERS
        if each not in (crest.WebSocketConnection, crest.UserRoom)
        and ({"__init__", "__new__"} & set(vars(each)) or dataclasses.is_dataclass(each))
    ]


def functions() -> dict[str, tuple[str, Callable[..., Any]]]:
    """What must have a signature in the reference: by section, the name and the function."""
    found: dict[str, tuple[str, Callable[..., Any]]] = {
        slug(each.__name__): (each.__name__, each) for each in constructed()
    }
    for each in OTHERS:
        for name, member in members(each).items():
            if callable(member):
                found[slug(f"{each.__name__}.{name}")] = (name, member)
    return found


def test_the_reference_has_every_signature() -> None:
    expected = {section: normalized(actual(*function)) for section, function in functions().items()}
    assert {section: normalized(code) for section, code in SIGNATURES.items()} == expected


def test_the_reference_has_every_public_name() -> None:
    missing = [each.__name__ for each in CLASSES if slug(each.__name__) not in REFERENCE]
    assert missing == []
    assert "`crest.__version__`" in REFERENCE["version"]


def test_the_reference_explains_every_argument() -> None:
    """In the section that has the signature, or else among the limits."""
    for section, code in SIGNATURES.items():
        (function,) = ast.parse(normalized(code)).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for each in function.args.args + function.args.kwonlyargs:
            shown = f"`{each.arg}`" in REFERENCE[section] or f"`{function.name}({each.arg})`" in REFERENCE["limits"]
            assert shown or each.arg == "handler", f"{section}: {each.arg}"


@pytest.mark.parametrize("cls", OTHERS)
def test_the_reference_has_every_attribute(cls: type) -> None:
    attributes = {name for name, member in members(cls).items() if not callable(member)}
    section = "attributes" if cls is crest.WebSocketConnection else slug(cls.__name__)
    rows = set(re.findall(r"^\| `(\w+)` \|", REFERENCE[section], re.MULTILINE))
    parameters = set(inspect.signature(cls).parameters) if cls in constructed() else set()
    options = parameters if issubclass(cls, crest.App | crest.WebSocketServer) else set()  # the signature has them
    assert attributes - options <= rows <= attributes | parameters


@pytest.mark.parametrize("enum", ENUMS)
def test_the_reference_has_every_code(enum: type[IntEnum]) -> None:
    found = re.findall(r"`([A-Z_]+)`(?: \|)? (\d+)", REFERENCE[slug(enum.__name__)])
    assert {name: int(value) for name, value in found} == {each.name: each.value for each in enum}


def test_the_reference_has_every_limit() -> None:
    rows = re.findall(r"^\| `(\w+)\((\w+)\)` \| `(.+?)` \|", REFERENCE["limits"], re.MULTILINE)
    found = {(cls, parameter): ast.literal_eval(default) for cls, parameter, default in rows}
    assert found == {
        (cls.__name__, each.name): each.default
        for cls in (App, WebSocketServer)
        for each in inspect.signature(cls).parameters.values()
        if each.kind is each.KEYWORD_ONLY and each.name != "subprotocols"
    }
