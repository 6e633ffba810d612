"""The documents: their sections, and the fenced blocks in them. A snippet is a fence of Python or JavaScript."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")),
)
RUN = ("python", "javascript")
NOT_RUN = ("console", "text")


class Fence(NamedTuple):
    """A fenced block: where it stands, and what it says."""

    document: str
    section: str
    number: int  # among the fences of this language in this section, from 1
    line: int  # of its first line of code, from 1
    language: str
    code: str

    @property
    def key(self) -> str:
        name = f"{Path(self.document).stem}#{self.section}"
        return name if self.number == 1 else f"{name}/{self.number}"


def slug(heading: str) -> str:
    """The anchor that a heading has on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def read(document: str) -> tuple[dict[str, str], list[Fence]]:
    """A document's sections, by anchor, and its fences; a section's text is without those."""
    sections: dict[str, str] = {}
    fences: list[Fence] = []
    section, opened = "", None
    code: list[str] = []
    for at, line in enumerate((ROOT / document).read_text(encoding="utf-8").splitlines(), start=1):
        if opened is not None and line == "```":
            language, start = opened
            number = 1 + sum(each.section == section and each.language == language for each in fences)
            fences.append(Fence(document, section, number, start, language, "\n".join(code) + "\n"))
            opened = None
        elif opened is not None:
            code.append(line)
        elif line.startswith("```"):
            opened, code = (line[3:], at + 1), []
        elif heading := re.fullmatch(r"#+ (.+)", line):
            section = slug(heading[1])
            assert section not in sections, f"{document} has two sections {section!r}"
            sections[section] = ""
        else:
            sections[section] += line + "\n"
    assert opened is None, f"{document} ends within a fence"
    return sections, fences


READ = {document: read(document) for document in DOCUMENTS}
FENCES = [fence for _, fences in READ.values() for fence in fences]
SNIPPETS = {fence.key: fence for fence in FENCES if fence.language in RUN}
