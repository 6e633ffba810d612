"""What holds for all documents: each snippet is checked, links lead somewhere, and what is named exists.

A snippet is a fence of Python or JavaScript. The modules of tests/docs have a check for each, by its document and
section, and one without is a failure. A snippet that imports App is a whole program; all others are fragments, which
find the names that the documents use: `app`, and `ws`, the server mounted at /ws (`prelude`). Those that use `conn` run
in a handler.
"""

import ast
import inspect
import re
from pathlib import Path
from runpy import run_path

import pytest
from support.documents import FENCES, NOT_RUN, READ, ROOT, RUN, SNIPPETS, read

import crest
from crest import App, WebSocketServer

CHECKING = sorted((Path(__file__).parent / "docs").glob("test_*.py"))


def checked(module: Path) -> list[str]:
    """The keys of the snippets that a module of tests checks. It is run here for that: pytest may have it elsewhere."""
    names = run_path(str(module))
    if "check" not in names:
        return []
    assert "test_snippet" in names, f"{module.name}: `test_snippet = check.test()` is missing, below the checks"
    [parameters] = [mark.args for mark in names["test_snippet"].pytestmark if mark.name == "parametrize"]
    assert list(parameters[1]) == list(names["check"].keys), f"{module.name}: test_snippet stands above a check"
    return list(parameters[1])


def test_every_check_has_a_snippet() -> None:
    """And every snippet has one check."""
    found = [key for module in CHECKING for key in checked(module)]
    assert len(found) == len(set(found)), "a snippet has two checks"
    for fence in SNIPPETS.values():
        assert fence.key in found, f"the snippet at {fence.document}:{fence.line} has no check"
    assert set(found) == set(SNIPPETS)


def test_fences_say_what_they_are() -> None:
    assert {fence.language for fence in FENCES} <= {*RUN, *NOT_RUN}


@pytest.mark.parametrize(("key", "example"), [("basic-usage", "quickstart"), ("chat-application-example", "chat")])
def test_the_programs_are_the_examples(key: str, example: str) -> None:
    """But for the address, which an example takes from the environment."""
    *program, run = ast.parse(SNIPPETS[f"websocket#{key}"].code).body
    docstring, *body, last = ast.parse((ROOT / f"examples/{example}.py").read_text(encoding="utf-8")).body
    without_os = [each for each in body if ast.unparse(each) != "import os"]
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    assert ast.unparse(run).startswith("app.run(") and ast.unparse(last).startswith("app.run(os.environ")
    assert [ast.unparse(each) for each in without_os] == [ast.unparse(each) for each in program]


def test_links_lead_somewhere() -> None:
    for document, (sections, _) in READ.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(sections.values())):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / document).parent / path if path else ROOT / document
            assert file.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in read(str(file.resolve().relative_to(ROOT)))[0], f"{document}: {target}"


def test_security_names_tests_and_limits_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    tests = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", text)
    assert len(tests) > 20
    for path, function in tests:
        assert f"def {function}" in (ROOT / path).read_text()
    options = {*inspect.signature(App).parameters, *inspect.signature(WebSocketServer).parameters}
    [limits] = re.findall(r"\n## Limits\n(.*?)\n## ", text, re.DOTALL)
    named = {name for row in re.findall(r"^\| (`.*?) \|", limits, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named and named <= options


@pytest.mark.skipif(not (ROOT / "src").is_dir(), reason="the sources are not here: an installed package is tested")
def test_the_map_has_every_file() -> None:
    """In its folder: each indent of two more is a folder's. A line may name a .h and a .pyx."""
    (floors,) = [fence.code for fence in READ["README.md"][1] if fence.section == "how-it-is-built"]
    drawn: set[str] = set()
    folders: list[str] = []
    for line in floors.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        if opened := re.match(r" +(\w+/) ", line):
            folders = [*folders[:depth], opened[1]]
        elif names := re.match(r" +((?:\w+\.(?:py|pyx|h) +)+)", line + " "):
            drawn |= {"".join(folders[:depth]) + each for each in names[1].split()}
    sources = [each for kind in ("*.py", "*.pyx", "*.h") for each in (ROOT / "src/crest").rglob(kind)]
    there = {each.relative_to(ROOT / "src/crest").as_posix() for each in sources if not each.name.startswith("_")}
    assert drawn == there


@pytest.mark.parametrize("page", ["admission", "compression"])
def test_pages_have_the_defaults(page: str) -> None:
    """They are the reference's."""
    sections, _ = READ[f"docs/{page}.md"]
    tables = [text for name, text in sections.items() if name.endswith("-and-defaults")]
    words = {"none": None, "nobody": (), "10 seconds": 10.0}
    rows = re.findall(r"^\| `(\w+)\((\w+)\)` \| (.+?) \|", "".join(tables), re.MULTILINE)
    assert rows
    for cls, name, shown in rows:
        default = inspect.signature(getattr(crest, cls)).parameters[name].default
        assert default == (words[shown] if shown in words else ast.literal_eval(shown.strip("`")))
