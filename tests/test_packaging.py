"""What is distributed: version, public names, and which files an installed package has.

The parts about pyproject.toml and setup.py need the source tree, those about an installed wheel need one.
"""

import importlib
import pkgutil
import re
import tomllib
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from runpy import run_path

import pytest

import crest

ROOT = Path(__file__).parent.parent
PACKAGE = Path(crest.__file__).parent
WHEEL = metadata.distribution("crest-ws")
MODULES = sorted(module.name for module in pkgutil.walk_packages(crest.__path__, "crest."))
COMPILED = sorted(path for suffix in EXTENSION_SUFFIXES for path in PACKAGE.rglob(f"*{suffix}"))

needs_sources = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="needs the source tree; this tests an installed package"
)
needs_wheel = pytest.mark.skipif(
    ROOT in PACKAGE.parents, reason="needs an installed wheel (`make dist`); this tests a source tree"
)


def test_version_is_the_distribution_s() -> None:
    assert crest.__version__ == WHEEL.version
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", crest.__version__)


def test_public_names_exist_once_in_order() -> None:
    assert crest.__all__ == sorted(set(crest.__all__))
    assert all(hasattr(crest, name) for name in crest.__all__)


def test_public_names_are_documented() -> None:
    """By a docstring of their own, or by name in the docstring of their class."""
    builtin = {name for each in (str, int, OSError) for name in dir(each)}
    bare = []
    for each in (getattr(crest, name) for name in crest.__all__):
        if isinstance(each, type):
            assert each.__doc__, each
            names = [name for name in dir(each) if not name.startswith("_") and name not in builtin]
            bare += [
                f"{each.__name__}.{name}"
                for name in names
                if not getattr(getattr(each, name), "__doc__", None) and not re.search(rf"\b{name}\b", each.__doc__)
            ]
    assert not bare, f"neither a docstring nor named in the docstring of the class: {bare}"


def test_every_module_can_be_imported_first() -> None:
    """Compiled ones included."""
    assert len(MODULES) > 15
    for name in MODULES:
        importlib.import_module(name)


def test_types_are_shipped() -> None:
    """py.typed, and a stub beside each compiled module."""
    assert (PACKAGE / "py.typed").exists()
    assert len(COMPILED) >= 8
    stubs = [path.with_name(path.name.split(".")[0] + ".pyi") for path in COMPILED]
    assert [path for path in stubs if not path.exists()] == []


@needs_wheel
def test_wheel_has_no_sources_of_compiled_modules() -> None:
    files = [str(path) for path in WHEEL.files or ()]
    assert any(name.endswith("py.typed") for name in files)
    assert [name for name in files if name.endswith((".c", ".h", ".pyx", ".pxd"))] == []
    assert [name for name in files if not name.startswith(("crest/", "crest_ws-"))] == []


@needs_wheel
def test_licence_is_shipped() -> None:
    assert any(path.name == "LICENSE" for path in WHEEL.files or ())


def test_the_description_has_no_links_that_lead_nowhere() -> None:
    """Package indexes show it far from the source tree."""
    assert WHEEL.metadata["Description-Content-Type"] == "text/markdown"
    description = WHEEL.metadata.get_payload()
    assert isinstance(description, str) and description.startswith("# crest\n")
    assert "](https://www.rfc-editor.org/rfc/rfc6455)" in description
    assert re.findall(r"\]\((?!https://)[^)]*\)", description) == []


README = """\
[a guide](docs/a.md#b) and ![a picture](c/d.svg), [RFC](https://rfc.example/#1), ![badge](https://e.example/f.svg),
[further down](#down)
```python
text = "[not a link](g.md)"
```
[h](i.py)
"""


@needs_sources
def test_relative_links_of_the_readme_are_made_absolute() -> None:
    absolute = run_path(str(ROOT / "long_description.py"))["absolute"]
    linked = absolute(README, "https://git.example/crest", "1.2.3")
    here = "https://git.example/crest"
    assert linked == README.replace("(docs/", f"({here}/blob/v1.2.3/docs/").replace(
        "(c/", f"({here}/raw/v1.2.3/c/"
    ).replace("(i.py)", f"({here}/blob/v1.2.3/i.py)")
    bare = absolute(README, None, "1.2.3")
    assert bare == README.replace("[a guide](docs/a.md#b)", "a guide").replace("![a picture](c/d.svg)", "").replace(
        "[h](i.py)", "h"
    )


@needs_sources
def test_every_cython_module_is_built() -> None:
    built = set(re.findall(r'^ +"([a-z]+\.[a-z0-9]+)",$', (ROOT / "setup.py").read_text("utf-8"), re.MULTILINE))
    sources = ROOT / "src" / "crest"
    written = {".".join(path.relative_to(sources).with_suffix("").parts) for path in sources.rglob("*.pyx")}
    assert built == written


@needs_sources
def test_python_versions_agree() -> None:
    """Classifiers, requires-python and the wheels that are built name the same versions."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    prefix = "Programming Language :: Python :: 3."
    minors = [int(line.removeprefix(prefix)) for line in config["project"]["classifiers"] if line.startswith(prefix)]
    assert config["project"]["requires-python"] == f">=3.{minors[0]}"
    assert config["tool"]["cibuildwheel"]["build"] == [f"cp3{minor}-*" for minor in minors]
