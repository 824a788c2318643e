"""The command line: `vitrine up | serve | worker | mirror`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.processes import hold_lifeline
from service.settings import Settings, SettingsError, read_settings

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A model server whose every prediction can be explained."
)

HomeOption = Annotated[Path | None, typer.Option(help="Folder that holds everything. [default: ./var]")]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on. [default: 8000]")]


@cli.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Train three demo models first, where they are missing.")
    ] = False,
    home: HomeOption = None,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Start everything under one folder: API, compute process, worker."""
    from service.up import run_up

    raise typer.Exit(run_up(_settings(home=home, host=host, port=port), demo=demo))


@cli.command()
def serve(home: HomeOption = None, host: HostOption = None, port: PortOption = None) -> None:
    """Start the API process with its compute process."""
    import uvicorn

    from service.app import create_app

    settings = _settings(home=home, host=host, port=port)
    _begin()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )


@cli.command()
def worker(home: HomeOption = None) -> None:
    """Start a worker, which runs training jobs from the queue."""
    from service.jobs.worker import WorkerNameTaken, run_worker

    settings = _settings(home=home)
    _begin()
    try:
        run_worker(settings)
    except WorkerNameTaken as error:
        sys.stderr.write(f"vitrine: {error}\n")
        raise typer.Exit(2) from None


@cli.command()
def mirror(
    home: HomeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Catch up once and end; status 1 when it could not.")] = False,
) -> None:
    """Mirror versions and aliases to the MLflow of VITRINE_MLFLOW_TRACKING_URI."""
    from models.errors import TrackingNotUsable
    from service.mirror import MirrorInUse, run_mirror

    settings = _settings(home=home)
    _begin()
    try:
        raise typer.Exit(run_mirror(settings, once=once))
    except (TrackingNotUsable, MirrorInUse) as error:
        sys.stderr.write(f"vitrine: {error}\n")
        raise typer.Exit(1) from None


def _begin() -> None:
    hold_lifeline()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # One line for each thing that happens is enough.
    logging.getLogger("dbos").setLevel(logging.WARNING)


def _settings(**options: object) -> Settings:
    try:
        return read_settings(os.environ, **options)
    except SettingsError as error:
        sys.stderr.write(f"vitrine: these settings cannot be used:\n{error}\n")
        raise typer.Exit(2) from None


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
