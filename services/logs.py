"""Logs: one JSON object a line on stderr, whoever writes them, without personal data, and never in the way.

Lines carry keys of devices, counts and codes. A name, a token or a reading must not get in, so every text is cleaned:
what a database error quotes of a row is cut off, credentials are masked, long texts are shortened. A line that
cannot be written (disk full, closed or stuck stderr) is dropped and counted: logging never stops the data path.
"""

from __future__ import annotations

import logging
import os
import re
import select
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final

import psycopg
import structlog

from services import metrics

MAX_TEXT: Final = 1_500
CHUNK: Final = 4_096  # a pipe that is ready takes this much without blocking

# What a record's content can cause: the text of such an error may quote readings, so only its kind is told.
OF_DATA: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, LookupError, ArithmeticError, TypeError)
# What servers and libraries quote of the data: everything from these words on is dropped from an error's text.
_QUOTED: Final = re.compile(
    r"\s*\b(DETAIL:|CONTEXT:|STATEMENT:|LINE \d+:|QUERY:|PARAMETERS:|Failing row contains).*", re.DOTALL
)
_INPUT: Final = re.compile(
    r"(input_value=|invalid input syntax for type [^:]*:|could not convert string to float:|invalid literal for).*",
    re.DOTALL,
)
_SECRET: Final = re.compile(
    r"(?i)(bearer\s+|token[=:]\s*|password[=:]\s*|passwd[=:]\s*|secret[=:]\s*|cookie:\s*|keepwell_session=)[^\s&;,'\"]+"
)
_URL_LOGIN: Final = re.compile(r"(//)[^/\s@]+@")
_LONG_OPAQUE: Final = re.compile(r"[A-Za-z0-9_-]{40,}")  # a token of ours has 43 letters


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text fit for a log: no quoted rows, no credentials, not endless."""
    text = _QUOTED.sub("", text)
    text = _INPUT.sub(r"\1 [left out]", text)
    text = _SECRET.sub(r"\1[masked]", text)
    text = _URL_LOGIN.sub(r"\1[masked]@", text)
    text = _LONG_OPAQUE.sub("[masked]", text)
    return text if len(text) <= limit else text[:limit] + "…"


def configure_logging(level: str | None = None) -> None:
    """Write one JSON object a line to stderr; ``KEEPWELL_LOG`` sets the level (default info)."""
    name = (level or os.environ.get("KEEPWELL_LOG", "info")).upper()
    wanted = logging.getLevelNamesMapping().get(name, logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_error,
            _cleaned,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(wanted),
        logger_factory=lambda *_: Lines(),
        cache_logger_on_first_use=True,
    )
    # whatever came before, and whatever a library adds later, goes through the one handler of the root
    for existing in [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]:
        for handler in list(existing.handlers):
            existing.removeHandler(handler)
    root = logging.getLogger()
    root.addHandler(OneLine())
    root.setLevel(max(wanted, logging.WARNING))
    logging.captureWarnings(True)
    logging.raiseExceptions = False
    sys.excepthook = _uncaught


class OneLine(logging.Handler):
    """Libraries' log records in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a record that cannot even be put together is counted as lost."""
        try:
            first, _, _ = record.getMessage().partition("\n")  # what follows is often a repr, with values in it
            event: dict[str, Any] = {"event": first.rstrip(), "logger": record.name, "exc_info": record.exc_info}
            structlog.get_logger().log(record.levelno, **event)
        except Exception:
            metrics.LOG_LINES_LOST.inc()


class Lines:
    """Writes lines to stderr without ever raising or blocking."""

    def msg(self, line: str) -> None:
        """Write one line, or count it as lost."""
        if not write_line(line):
            metrics.LOG_LINES_LOST.inc()

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


def write_line(line: str) -> bool:
    """Write one line to stderr; return whether it got there whole."""
    data = line.encode("ascii", "backslashreplace") + b"\n"
    try:
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            if not select.select([], [2], [], 0)[1] or os.write(2, chunk) != len(chunk):
                return False
    except (OSError, ValueError):
        return False
    return True


def _with_error(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace ``exc_info`` by the kind of the error and where it came from: code and line numbers, no values."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    elif isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if info and info[1] is not None:
        kind = type(info[1]).__name__
        event["error"] = kind if isinstance(info[1], OF_DATA) else f"{kind}: {info[1]}"
        frames = traceback.extract_tb(info[2])
        event["trace"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-20:]]
    return event


def _cleaned(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {str(key): _clean_value(value) for key, value in event.items()}


def _clean_value(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): _clean_value(item) for key, item in list(value.items())[:100]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean_value(item) for item in list(value)[:100]]
    return clean(str(value))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("uncaught", exc_info=(kind, error, trace))
