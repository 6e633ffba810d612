"""docs/memory.md: its snippet, and its figures at the defaults."""

import inspect
import re

from support.documents import READ
from support.snippets import Checks, Stage

from crest import App, WebSocketServer

check = Checks()


@check("memory#what-counts")
def what_counts(stage: Stage) -> None:
    app = stage.execute()["app"]
    assert app.max_backlog_total == 1 << 28
    stage.answers(app, "😀", "😀")


def test_the_page_about_memory_has_the_formulas_at_the_defaults() -> None:
    defaults = {name: each.default for name, each in inspect.signature(WebSocketServer).parameters.items()}
    names = {
        "M": defaults["max_message_size"], "Q": defaults["max_queue"], "B": defaults["max_backlog"],
        "H": inspect.signature(App).parameters["max_header_size"].default,
    }  # fmt: skip
    sections, _ = READ["docs/memory.md"]
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| ([\d,]+) \|", sections["what-one-connection-can-pin"], re.MULTILINE)
    assert len(rows) == 9
    for formula, shown in rows:
        words = {"×": "*", "KiB": "* 1024", "a read": "256 * 1024", "40,056": "40056", ", and one message": ""}
        for word, symbol in words.items():
            formula = formula.replace(word, symbol)
        assert eval(formula, names) == int(shown.replace(",", "")), formula


test_snippet = check.test()
