"""The prose rules of CONTRIBUTING.md, as far as words can show them, over docstrings and comments of the sources."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "src" / "crest"
pytestmark = pytest.mark.skipif(not SOURCES.is_dir(), reason="needs the source tree; this tests an installed package")

FIRST = re.compile(r"(?:What|Who|Whom|Whose|Whether|Where|Which|How)\b")
"""No docstring of a function begins so: the first word is a verb, or "True if" where it answers a question."""

ACTORS = re.compile(r"\b(?:who|whom|whoever|nobody)\b", re.IGNORECASE)
"""The actor has a name: peer, client, outbox, handler, loop."""

ELSEWHERE = re.compile(r"\b(?:likewise|as for)\b", re.IGNORECASE)
"""No text refers to its neighbour's."""

MOST_WORDS = 25
"""In one sentence."""

Text = tuple[int, str]  # line, and text

CYTHON_DOCSTRING = re.compile(r'"""([\s\S]*?)"""')
CYTHON_HEAD = re.compile(r"[ ]*(?:async def|c?p?def(?! (?:class|enum|extern|struct|packed)))\b.*\(")


def sources(*kinds: str) -> list[Path]:
    return sorted(path for path in SOURCES.rglob("*") if path.suffix in kinds)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def functions(path: Path) -> Iterator[Text]:
    """The docstrings of functions and methods."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (found := ast.get_docstring(node)):
                yield node.lineno, found
    else:
        lines = text.split("\n")
        for number, line in enumerate(lines):
            if CYTHON_HEAD.match(line):
                head = line
                while head.count("(") > head.count(")") and number + 1 < len(lines):
                    number += 1
                    head += lines[number]
                if not re.search(r":(?:\s*#.*)?$", head):  # a declaration
                    continue
                match = CYTHON_DOCSTRING.match("\n".join(lines[number + 1 : number + 60]).lstrip())
                if match:
                    yield number + 1, match[1]


def docstrings(path: Path) -> Iterator[Text]:
    """All strings that stand for themselves, those behind a constant included."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield node.lineno, node.value.value
    else:
        for match in CYTHON_DOCSTRING.finditer(text):
            yield line_of(text, match.start()), match[1]


def comments(path: Path) -> Iterator[Text]:
    """Comments; those of lines that follow each other are one."""
    text = path.read_text("utf-8")
    if path.suffix == ".h":
        for match in re.finditer(r"/\*([\s\S]*?)\*/|//([^\n]*)", text):
            yield line_of(text, match.start()), re.sub(r"(?m)^[ ]*\*", "", match[1] or match[2])
        return
    if path.suffix == ".py":
        tokens = [
            each for each in tokenize.generate_tokens(io.StringIO(text).readline) if each.type == tokenize.COMMENT
        ]
        found = [(each.start[0], each.line[: each.start[1]].strip(), each.string) for each in tokens]
    else:
        bare = CYTHON_DOCSTRING.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        found = [
            (number, line[: line.index("#")].strip(), line[line.index("#") :])
            for number, line in enumerate(bare.split("\n"), 1)
            if re.search(r"(?:^|\s)#", line) and not re.search(r"[\"'][^\"']*#[^\"']*[\"']", line)
        ]
    first, before, gathered = 0, 0, ""
    for number, code, comment in found:
        words = comment.lstrip("#: ")
        if gathered and number == before + 1 and not code:
            gathered += " " + words
        else:
            if gathered:
                yield first, gathered
            first, gathered = number, words
        before = number
    if gathered:
        yield first, gathered


def texts(path: Path) -> Iterator[Text]:
    if path.suffix != ".h":
        yield from docstrings(path)
    yield from comments(path)


def quoted(text: str) -> str:
    """A text with the code in it as one word: names are not prose."""
    return re.sub(r"`[^`]*`|\"[^\"\n]*\"", "X", text)


def sentences(text: str) -> Iterator[str]:
    """The sentences of running text: not of tables, examples and diagrams."""
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"^\s*(?:[|>$]|>>>)|\S[ ]{3,}\S", paragraph, re.MULTILINE):
            continue
        items = re.split(r"\n\s*(?:[-*]|\d+\.|[\w, ./()|]+:)\s", "\n" + paragraph)
        for item in items:
            yield from re.split(r"(?<=[.?!:;])\s+", " ".join(quoted(item).split()))


def found(pattern: re.Pattern[str], path: Path) -> Iterator[str]:
    for line, text in texts(path):
        for match in pattern.finditer(quoted(text)):
            yield f"{path.relative_to(SOURCES)}:{line}: {match[0]}"


KINDS = ".py", ".pyx", ".pxd", ".pyi", ".h"


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    wrong = [
        f"{path.relative_to(SOURCES)}:{line}: {text.split(chr(10))[0]}"
        for path in sources(".py", ".pyx", ".pxd", ".pyi")
        for line, text in functions(path)
        if FIRST.match(text.lstrip())
    ]
    assert not wrong, f"{len(wrong)} do not:\n" + "\n".join(wrong)


def test_actors_have_names() -> None:
    wrong = [each for path in sources(*KINDS) for each in found(ACTORS, path)]
    assert not wrong, f"{len(wrong)} times somebody:\n" + "\n".join(wrong)


def test_texts_stand_for_themselves() -> None:
    wrong = [each for path in sources(*KINDS) for each in found(ELSEWHERE, path)]
    assert not wrong, "\n".join(wrong)


def test_sentences_are_short() -> None:
    wrong = [
        f"{path.relative_to(SOURCES)}:{line}: {len(sentence.split())} words: {sentence}"
        for path in sources(*KINDS)
        for line, text in texts(path)
        for sentence in sentences(text)
        if len(sentence.split()) > MOST_WORDS
    ]
    assert not wrong, f"{len(wrong)} sentences over {MOST_WORDS} words:\n" + "\n".join(wrong)


def test_all_of_it_is_looked_at() -> None:
    """What the tests above read: a fault in a pattern would read nothing."""
    read = {path: (list(functions(path)) if path.suffix != ".h" else [], list(texts(path))) for path in sources(*KINDS)}
    assert sum(len(found) for found, _ in read.values()) > 600
    assert sum(len(found) for _, found in read.values()) > 1500
    assert any("RFC 6455" in text for _, text in read[SOURCES / "wire" / "frames.pyx"][1])
    assert any(text.startswith("Send") for _, text in read[SOURCES / "io" / "out" / "methods.pyi"][0])
    assert any("AVX-512" in text for _, text in read[SOURCES / "kernels" / "decoder_compress.h"][1])


def test_a_sentence_ends_where_it_ends() -> None:
    text = "One sentence, with `some code. In it`: and\na second; a third.\n\n    - an item. Another\n\n    a   diagram"
    assert list(sentences(text)) == ["One sentence, with X:", "and a second;", "a third.", "", "an item.", "Another"]
