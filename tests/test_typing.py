"""What type checkers see of the installed package: its stubs and py.typed.

Programs in typing/accepted have no error. Those in typing/refused have one in each line that says so, and no other.
pyright's own wheel fetches its program from a registry when it first runs. basedpyright's has it in the wheel: what is
run here is that, in pyright's strict mode.
"""

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import pytest
from support.documents import ROOT, SNIPPETS

import crest

PROGRAMS = Path(__file__).parent / "typing"
ACCEPTED = sorted(PROGRAMS.glob("accepted/*.py"))
REFUSED = sorted(PROGRAMS.glob("refused/*.py"))
EXAMPLES = ROOT / "examples"

Place = tuple[str, int]
"""A file's name, and a line of it."""


def mypy(folder: Path, files: list[Path]) -> dict[Place, str]:
    """The errors of mypy --strict in these files. What it keeps goes into the folder."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={folder}", *map(str, files)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    found = re.findall(r"(?m)^(.+?):(\d+): error: (.+)$", result.stdout)
    assert result.returncode == bool(found), result.stdout + result.stderr
    return {(Path(file).name, int(line)): message for file, line, message in found}


def pyright(folder: Path, files: list[Path]) -> dict[Place, str]:
    """The errors of pyright in these files, in its strict mode. Its configuration goes into the folder."""
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps({"typeCheckingMode": "strict", "include": [str(file) for file in files]}))
    command = [sys.executable, "-m", "basedpyright", f"--project={project}", f"--pythonpath={sys.executable}"]
    result = subprocess.run([*command, "--outputjson"], cwd=folder, capture_output=True, text=True)
    report = json.loads(result.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files), report
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }


CHECKERS = {"mypy": mypy, "basedpyright": pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def errors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Place, str]:
    """What a checker finds in the programs, both those that are right and those that are wrong."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed; `make types` installs it")
    return CHECKERS[request.param](tmp_path_factory.mktemp("checked"), [*ACCEPTED, *REFUSED])


needs_mypy = pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed; `make types` installs it")


@needs_mypy
def test_public_api_has_its_types(tmp_path: Path) -> None:
    assert mypy(tmp_path, [PROGRAMS / "check_public_api.py"]) == {}


def test_programs_that_are_right_pass(errors: dict[Place, str]) -> None:
    assert len(ACCEPTED) >= 5
    names = {file.name for file in ACCEPTED}
    assert {place: message for place, message in errors.items() if place[0] in names} == {}


def test_programs_that_are_wrong_are_refused_where_they_are(errors: dict[Place, str]) -> None:
    lines = [(file.name, *each) for file in REFUSED for each in enumerate(file.read_text("utf-8").splitlines(), 1)]
    marked = {(name, number) for name, number, line in lines if line.endswith("  # refused")}
    assert len({name for name, _ in marked}) == len(REFUSED) >= 5
    names = {file.name for file in REFUSED}
    found = {place for place in errors if place[0] in names}
    assert found == marked, {place: errors.get(place, "passes") for place in found ^ marked}


# ---- Docstrings in stubs: what editors show --------------------------------------------------------------------------

PUBLIC = [getattr(crest, name) for name in crest.__all__ if name != "__version__"]


def members(cls: type) -> list[str]:
    """The public members of a class itself that have a docstring."""
    return [name for name, member in vars(cls).items() if not name.startswith("_") and member.__doc__]


def is_compiled(cls: type) -> bool:
    return cls.__module__.startswith("crest.") and Path(inspect.getfile(cls)).suffix != ".py"


SHOWN = {
    base for public in PUBLIC for base in public.__mro__ if is_compiled(base) and (base in PUBLIC or members(base))
}
"""The compiled classes that are public, or have a part of what public ones have."""


def stub_of(module: str) -> Path:
    return Path(crest.__file__).parent.parent.joinpath(*module.split(".")).with_suffix(".pyi")


def docstrings(node: ast.Module | ast.ClassDef, within: str = "") -> Iterator[tuple[str, str]]:
    """What a stub documents: the path of a class, a function or a property within its module, and the docstring."""
    for each in node.body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{within}{each.name}"
            if text := ast.get_docstring(each):
                yield name, text
            if isinstance(each, ast.ClassDef):
                yield from docstrings(each, f"{name}.")


def documented(module: str) -> dict[str, str]:
    return dict(docstrings(ast.parse(stub_of(module).read_text("utf-8"))))


def test_stubs_have_the_docstrings_of_what_is_public() -> None:
    assert {cls.__name__ for cls in SHOWN} >= {"Broadcaster", "ErrorText", "Outbox"}
    for cls in SHOWN:
        names = {cls.__name__, *(f"{cls.__name__}.{name}" for name in members(cls))}
        assert names <= documented(cls.__module__).keys()


def test_docstrings_of_stubs_are_those_of_the_modules() -> None:
    compared = 0
    for module in sorted({cls.__module__ for cls in SHOWN}):
        for name, text in documented(module).items():
            assert inspect.getdoc(attrgetter(name)(sys.modules[module])) == text, f"{module}.{name}"
            compared += 1
    assert compared > 10


# ---- Documents and examples ------------------------------------------------------------------------------------------

CONTEXT = {
    "app": "app = crest.App()",
    "ws": "ws = crest.WebSocketServer()",
    "conn": "conn = ws.get_connections()[0]",
    "rendered_report": "async def rendered_report() -> str: return ''",
}
"""What fragments use and do not define: what tests/support/snippets.py runs them with, in one line each."""


def snippet_files(folder: Path) -> list[Path]:
    """The documents' Python as files: a whole program as it stands, a fragment below what it needs."""
    files = []
    for key, fence in SNIPPETS.items():
        if fence.language == "python":
            code = fence.code
            if not re.search(r"(?m)^from crest import .*\bApp\b", code) or "rendered_report" in code:
                needed = [line for name, line in CONTEXT.items() if name == "ws" or re.search(rf"\b{name}\b", code)]
                code = "\n".join(["import crest", *needed, code])
            files.append(folder / (re.sub(r"\W", "_", key) + ".py"))
            files[-1].write_text(code, encoding="utf-8")
    return files


@needs_mypy
def test_snippets_have_types(tmp_path: Path) -> None:
    files = snippet_files(tmp_path)
    assert len(files) > 50
    assert mypy(tmp_path, files) == {}


@needs_mypy
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not here: an installed package is tested alone")
def test_examples_have_types(tmp_path: Path) -> None:
    assert mypy(tmp_path, sorted(EXAMPLES.glob("*.py"))) == {}
