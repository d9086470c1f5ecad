"""`python -m app`: the API."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import Annotated, Any

import structlog
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from app import logs
from app.background.child import background
from app.contract.settings import described, misspelt, mistakes
from app.contract.uploads import UnusableStoreError, UploadStore
from app.http.keyring import KeyFileError, read_keys
from app.http.protocol import BoundedProtocol
from app.main import create_app
from app.services import Services
from app.settings import Settings

BAD_USAGE = 2
SWITCH_S = 0.0005
KEEP_ALIVE_S = 75  # longer than proxies' idle timeout of a minute, so that the proxy closes idle connections
SHUTDOWN_S = 30  # for running requests

log = structlog.get_logger(__name__)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on: MIEN_HOST, or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on: MIEN_PORT, or 8000.")] = None,
) -> None:
    """Serve the API that labels facial expressions in video."""
    given: dict[str, Any] = {"host": host, "port": port}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        print(*mistakes(error), sep="\n", file=sys.stderr)
        raise typer.Exit(BAD_USAGE) from None
    refusal = settings.refusal()
    if refusal:
        print(refusal, file=sys.stderr)
        raise typer.Exit(BAD_USAGE)
    try:
        UploadStore(settings.uploads)
        if settings.api_keys_file:
            read_keys(settings.api_keys_file)
    except (UnusableStoreError, KeyFileError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(BAD_USAGE) from None
    logs.configure(settings.log_level, settings.log_json)
    for name, meant in misspelt(Settings, os.environ).items():
        log.warning("unknown_setting", name=name, meant=meant)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = _Server(config, app)
    # Storage and RQ run in threads: a short switch interval keeps the event loop responsive.
    sys.setswitchinterval(SWITCH_S)
    # uvicorn raises the signal again when it has shut down: then the child is to be ended, too.
    signal.signal(signal.SIGTERM, _exit)
    try:
        with background(), suppress(KeyboardInterrupt):
            server.run()
    except SystemExit as ended:
        if not ended.code:
            raise
    if not server.started:  # uvicorn has said why, and would exit with a status of its own
        raise typer.Exit(1)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


class _Server(uvicorn.Server):
    """Tells long polls and event streams to end when the process is asked to stop."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Freeze loaded objects: collections over them would pause requests for tens of milliseconds.
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.changes.stop_soon()
        super().handle_exit(sig, frame)


def main() -> None:
    """Entry point."""
    command = typer.Typer(add_completion=False, rich_markup_mode=None)
    command.command(epilog=described(Settings))(serve)
    command()


if __name__ == "__main__":
    main()
