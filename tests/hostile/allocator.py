"""The failing allocator, compiled once for each interpreter and loaded; see allocator.c."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, Protocol, cast

SOURCE = Path(__file__).with_suffix(".c")
NAME = "hostile_allocator"


class Allocator(Protocol):
    """What the module has."""

    def fail(self, first: int, count: int) -> None: ...
    def run(self, callback: Callable[..., Any], *args: Any) -> Any: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def collect(self, after: int) -> None: ...
    def collected(self) -> None: ...
    def prepare(self, callback: Callable[[int], Any] | None) -> None: ...
    def counts(self) -> tuple[int, int]: ...


def why_not() -> str | None:
    """The reason why it can not be compiled here; None: it can."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return "needs CPython, and a C compiler as Unix has it"
    if compiler() is None:
        return "needs a C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "needs the headers of Python"
    return None


def compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc"))


def build(folder: Path) -> Path:
    """Compile it; returns the file of the module."""
    module = folder / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_path("include")
    link = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", *link, f"-I{include}", "-o", str(module), str(SOURCE)]
    subprocess.run(command, check=True, env=environment)
    return module


def load(module: Path) -> Allocator:
    """Load it. From now on the process has this allocator, which fails only when it is told to."""
    loader = ExtensionFileLoader(NAME, str(module))
    spec = cast(ModuleSpec, spec_from_loader(NAME, loader))
    loaded = module_from_spec(spec)
    loader.exec_module(loaded)
    return cast(Allocator, loaded)
