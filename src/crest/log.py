"""The logger of crest, and the filter that keeps foreign text within its line.

A line may repeat what a peer has sent, or the text of an exception, which often does. As it is, such text could end the
line and forge another one, or colour the terminal. So a filter of the logger escapes it, in one place for every line of
every floor, whatever handlers the program has.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from typing import Final

logger: Final = logging.getLogger("crest")

CONTINUED: Final = "\n    "
"""Replaces a new line within the text of an exception in a traceback, which has several lines anyway."""


FIELDS: Final[dict[str, object]] = dict.fromkeys(("connection", "client", "path", "worker"))
"""Attributes that every record has, for formatters, and what they are in one that says nothing: the connection's
id, the client's address and port, the path of the request, the worker's number. None where there is none."""


class Escaping(logging.Filter):
    """Escapes what is not printable in a record: control characters, separators of lines, marks of direction."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the texts of a record, and add the FIELDS that it lacks. Every record passes."""
        fields = record.__dict__
        for name, default in FIELDS.items():
            value = fields.setdefault(name, default)
            if type(value) is str:
                fields[name] = escaped(value)
        try:
            message = record.getMessage()
        except Exception:
            return True  # the handler reports what can not be formatted
        except BaseException as raised:  # by an application's object; no handler would stop it
            record.msg, record.args = "(a line whose text raised %s)", (type(raised).__name__,)
            return True
        if not message.isprintable():
            record.msg, record.args = escaped(message), ()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and record.exc_text is None:
            record.exc_text = safe_traceback(error)
        return True


def set_up_log(level: int | str, worker: int | None) -> None:
    """Log to stderr, unless the program has set up logging itself. A worker's lines say which one it is."""
    FIELDS["worker"] = worker
    if not logging.getLogger().handlers and not logger.handlers:
        named = "" if worker is None else f"[worker {worker}] "
        logging.basicConfig(format=f"%(asctime)s %(levelname)s {named}%(message)s")
        logger.setLevel(level)


def escaped(text: str) -> str:
    """Write characters that are not printable as in a Python literal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def safe_traceback(error: BaseException) -> str | None:
    """Format the traceback so that no text in it can pass for a line of the log. None: any formatter does so anyway."""
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    safe = text
    for foreign in _texts_of(error):
        if "\n" in foreign:
            safe = safe.replace(foreign, foreign.replace("\n", CONTINUED))
    safe = "\n".join(map(escaped, safe.split("\n")))
    return None if safe == text else safe


def _texts_of(error: BaseException) -> Iterator[str]:
    """Find the texts and notes of an exception, its causes and its members."""
    left, seen = [error], set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        notes = getattr(each, "__notes__", None)
        for text in (each, *(notes if isinstance(notes, list) else ())):
            try:
                yield str(text)
            except BaseException:  # the traceback says so
                continue
        left += [other for other in (each.__cause__, each.__context__) if other is not None]
        left += each.exceptions if isinstance(each, BaseExceptionGroup) else ()


logger.addFilter(Escaping())
