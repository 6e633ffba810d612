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
    absolute = run_path(str(ROOT / "presentation.py"))["absolute"]
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
def test_urls_of_the_project() -> None:
    """All of them come from the one that presentation.py names."""
    presentation = run_path(str(ROOT / "presentation.py"))
    urls = presentation["urls"]
    assert urls(None, "1.2.3") == {}
    linked = urls("https://git.example/crest", "1.2.3")
    assert linked["Source"] == "https://git.example/crest"
    assert linked["Changelog"] == "https://git.example/crest/blob/v1.2.3/CHANGELOG.md"
    for url in linked.values():
        path = url.partition("/blob/v1.2.3/")[2]
        assert not path or (ROOT / path).is_file(), url
    shown = dict(line.split(", ") for line in WHEEL.metadata.get_all("Project-URL", []))
    assert shown == urls(presentation["SOURCE"], crest.__version__)


@needs_sources
def test_every_cython_module_is_built() -> None:
    built = set(re.findall(r'^ +"([a-z]+(?:\.[a-z0-9]+)+)",$', (ROOT / "setup.py").read_text("utf-8"), re.MULTILINE))
    sources = ROOT / "src" / "crest"
    written = {".".join(path.relative_to(sources).with_suffix("").parts) for path in sources.rglob("*.pyx")}
    assert built == written


@needs_sources
def test_python_versions_agree() -> None:
    """Classifiers, requires-python, and the wheels that are built and expected name the same versions."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    prefix = "Programming Language :: Python :: 3."
    minors = [int(line.removeprefix(prefix)) for line in config["project"]["classifiers"] if line.startswith(prefix)]
    assert config["project"]["requires-python"] == f">=3.{minors[0]}"
    assert config["tool"]["cibuildwheel"]["build"] == [f"cp3{minor}-*" for minor in minors]
    assert run_path(str(ROOT / ".ci" / "wheels.py"))["PYTHONS"] == [f"cp3{minor}" for minor in minors]


def test_users_get_no_packages_of_developers() -> None:
    """What developers need are dependency groups, which are no part of what is distributed."""
    assert WHEEL.metadata.get_all("Provides-Extra") == ["asgi"]
    names = [(re.split(r"[^\w-]", each)[0], "extra ==" in each) for each in WHEEL.requires or ()]
    assert {name for name, extra in names if not extra} == {"httptools", "multidict", "uvloop"}
    assert {name for name, extra in names if extra} == {"uvicorn"}


# ---- What is checked before a release ------------------------------------------------------------------------------


@needs_sources
@pytest.mark.parametrize(
    ("wheel", "identifier"),
    [
        ("cp311-cp311-manylinux_2_28_x86_64.whl", "cp311-manylinux_x86_64"),
        ("cp315-cp315-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", None),
        ("cp315-cp315-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "cp315-manylinux_aarch64"),
        ("cp314-cp314-musllinux_1_2_aarch64.whl", "cp314-musllinux_aarch64"),
        ("cp314-cp314-macosx_11_0_arm64.whl", "cp314-macosx_arm64"),
        ("cp314-cp314-win_arm64.whl", "cp314-win_arm64"),
        ("cp314-cp314-linux_x86_64.whl", None),
        ("cp314-cp314t-win_arm64.whl", None),
        ("py3-none-any.whl", None),
    ],
)
def test_identifiers_of_wheels(wheel: str, identifier: str | None) -> None:
    """None: it is none of those that a release has."""
    wheels = run_path(str(ROOT / ".ci" / "wheels.py"))
    found = wheels["identifier"](f"crest_ws-1.2.3-{wheel}")
    assert (found in wheels["expected"]()) == (identifier is not None)
    assert identifier is None or found == identifier


@needs_sources
def test_the_wheels_of_a_release() -> None:
    wheels = run_path(str(ROOT / ".ci" / "wheels.py"))
    faults = wheels["faults_of_folder"]
    least = {"manylinux": "manylinux_2_28", "musllinux": "musllinux_1_2", "macosx": "macosx_11_0", "win": "win"}
    names = [
        f"crest_ws-1.2.3-{python}-{python}-{least[system]}_{machine}.whl"
        for python, _, platform in (each.partition("-") for each in sorted(wheels["expected"]()))
        for system, _, machine in [platform.partition("_")]
    ]
    sdist = "crest_ws-1.2.3.tar.gz"
    assert faults([sdist, *names]) == []
    assert faults(names) == ["there is not one sdist but 0"]
    assert faults([sdist, *names[1:]]) == ["cp311-macosx_arm64 is missing"]
    twice = names[0].replace("macosx_11_0", "macosx_13_0")
    assert faults([sdist, *names, twice]) == ["cp311-macosx_arm64 was built 2 times"]
    other = names[0].replace("1.2.3", "1.2.4")
    assert faults([sdist, other, *names[1:]]) == ["there is more than one version: 1.2.3, 1.2.4"]
    assert faults([sdist, *names, "notes.txt"]) == ["notes.txt should not be there"]


CHANGES = """\
## [1.2.3] - 2026-11-27

## [1.2.2] - Unreleased
"""


@needs_sources
def test_what_is_in_the_way_of_a_release() -> None:
    faults = run_path(str(ROOT / ".ci" / "release.py"))["faults"]
    assert faults("v1.2.3", "1.2.3", CHANGES, "https://git.example/crest") == []
    assert faults("v1.2.4", "1.2.3", CHANGES, "https://git.example/crest") == [
        "the tag is v1.2.4, the version is 1.2.3"
    ]
    for version in ("1.2.2", "1.2.1", "1.2"):
        (fault,) = faults(f"v{version}", version, CHANGES, "https://git.example/crest")
        assert f"## [{version}] - YYYY-MM-DD" in fault
    assert faults("v1.2.3", "1.2.3", CHANGES, None) == ["presentation.py does not name the repository: SOURCE is None"]
