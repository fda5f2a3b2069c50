"""JSON lines: a fixed sentence, the facts as fields, and what is being consumed right now.

They go to standard error, so that a command's result has standard output to itself.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

CONTEXT: ContextVar[Mapping[str, object]] = ContextVar("log_context", default=MappingProxyType({}))
"""Fields added to every line: the consumer binds topic and partitions here, so nobody hands loggers around."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One line of JSON per record; exceptions as type and place, because their texts may hold values."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record; never more than one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **CONTEXT.get(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else None
            line.update(error=kind.__name__, at=where)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str) -> None:
    """Send every logger's lines to standard error as JSON. Call once, from `main`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Libraries tell of every request and every rebalance; a person reads WARNING from them.
    for library in ("aiokafka", "faststream", "uvicorn", "uvicorn.access", "httpx"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLevelName(level)))
