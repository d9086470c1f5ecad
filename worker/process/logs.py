"""The worker's logs: one line an event on stderr, as text or JSON, with the job's and the request's ids."""

from __future__ import annotations

import logging
import socket
import sys

import structlog

from app.contract.settings import SharedSettings


def configure(settings: SharedSettings, worker: str = "") -> None:
    """Set up structlog for this process; libraries' own log lines below warnings are left out.

    worker: its name, which stands in every JSON line beside the host's; whoever reads text knows where he looks.
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
            # Plain tracebacks: those with the values of variables would put passwords into the log.
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
