"""The worker's logs: one line for each event on stderr, as text or JSON, with job and request ids."""

from __future__ import annotations

import logging
import socket
import sys

import structlog

from app.contract.settings import SharedSettings


def configure(settings: SharedSettings, worker: str = "") -> None:
    """Configure structlog for this process; libraries' log lines below warnings are dropped.

    worker: its name, which JSON lines contain beside the host's; text lines contain neither.
    """
    where = {"host": socket.gethostname()} | ({"worker": worker} if worker else {})
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        *([lambda logger, method, event: {**where, **event}] if settings.log_json else []),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_json
        else [
            # Plain tracebacks: rich ones show variables, which may hold passwords.
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[libraries], level=logging.WARNING)
    logging.captureWarnings(True)
