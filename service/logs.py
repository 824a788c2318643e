"""What a log line looks like, in every process: text for people, or one JSON object for machines."""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, Literal

import orjson

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

ROOM = "vitrine"
"""Our loggers are below this one; `VITRINE_LOG_LEVEL` is theirs. Those of libraries say what is wrong, no more."""
_CONTEXT_FIELDS = ("request_id", "job", "model", "version")
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=_NOTHING)
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^\s@]+@")


def configure_logging(part: str, *, log_format: LogFormat, log_level: LogLevel) -> None:
    """Sends every log line of this process to standard error in one form, uncaught exceptions included.

    Args:
        part: which process this is: api, compute, worker or trainer.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(part) if log_format == "json" else TextFormatter(part))
    handler.addFilter(add_context)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOM).setLevel(log_level)
    # DBOS would add a handler of its own form where it finds none.
    dbos = logging.getLogger("dbos")
    dbos.handlers[:], dbos.propagate = [handler], False
    dbos.setLevel(logging.WARNING)
    # Uvicorn says where it listens and when it stops.
    logging.getLogger("uvicorn").setLevel(max(logging.INFO, logging.getLevelNamesMapping()[log_level]))
    logging.captureWarnings(True)
    # What Pillow says of a damaged image is for whoever sent it. Here each text would be a line, and be kept for ever.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: (
        _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback) if args.exc_value else None
    )


def add_to_context(**fields: Any) -> None:
    """Adds fields to every later log line of this thread or task."""
    _context.set({**_context.get(), **fields})


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Adds fields to the log lines of a block."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def current_context() -> dict[str, Any]:
    """The fields that log lines have here, to be handed to another process."""
    return dict(_context.get())


def current_request_id() -> str | None:
    """The id of the request that is being answered here."""
    return _context.get().get("request_id")


def add_context(record: logging.LogRecord) -> bool:
    """A logging filter that lets everything pass and gives it the fields of its context."""
    for name, value in _context.get().items():
        if not hasattr(record, name):
            setattr(record, name, value)
    return True


def hide_passwords(text: str) -> str:
    """A text without the passwords of the URLs in it."""
    return _PASSWORD.sub(r"\1***@", text) if "://" in text else text


class TextFormatter(logging.Formatter):
    """`2026-11-21T09:30:00.123Z INFO api vitrine.pool: champion of digits is now version 3 [request_id=01K...]`"""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {self._part} {record.name}: {record.getMessage()}"
        if fields:
            line += f" [{fields}]"
        if exception := _exception(self, record):
            line += "\n" + exception
        return hide_passwords(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, part, message, the fields of its context, and `exception`."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "part": self._part,
            "message": hide_passwords(record.getMessage()),
            **_fields(record),
        }
        if exception := _exception(self, record):
            document["exception"] = hide_passwords(exception)
        return orjson.dumps(document, default=str).decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in _CONTEXT_FIELDS if (value := getattr(record, name, None)) is not None}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger(ROOM).critical("uncaught exception", exc_info=(kind, error, traceback))
