"""The command line: processes to start, commands that talk to a server, and the doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import datasets, doctor, jobs, models, online, predictions, schedules
from service.cli.connection import MISUSED, HomeOption, fail, read_settings_or_exit

if TYPE_CHECKING:
    from service.settings import Settings

# Imports of what a single command needs are inside it: `vitrine --help` must not take a second.
EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed, and why is on standard error; 2 the command line, a file or a setting "
    "cannot be used; 3 the server cannot be reached; 130 ended by Ctrl-C."
)
cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES,
    help="A model server whose every prediction can be explained.",
)

HostOption = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")]

GrpcPortOption = Annotated[int | None, typer.Option(help="Port to serve gRPC on.", show_default="off")]


@cli.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Train three demo models first, where they are missing.")
    ] = False,
    home: HomeOption = None,
    host: HostOption = None,
    port: PortOption = None,
    grpc_port: GrpcPortOption = None,
) -> None:
    """Start everything under one folder: API, compute process, worker."""
    from service.up import run_up

    settings = read_settings_or_exit(home=home, host=host, port=port, grpc_port=grpc_port)
    raise typer.Exit(run_up(settings, demo=demo))


@cli.command()
def serve(
    home: HomeOption = None, host: HostOption = None, port: PortOption = None, grpc_port: GrpcPortOption = None
) -> None:
    """Start the API process with its compute process."""
    from service.app import create_app
    from service.draining import Drain, serve_draining

    settings = read_settings_or_exit(home=home, host=host, port=port, grpc_port=grpc_port)
    _begin("api", settings)
    drain = Drain(grace_seconds=settings.drain_seconds, stop_seconds=settings.stop_seconds)
    serve_draining(create_app(settings, drain), drain, settings)


@cli.command()
def worker(home: HomeOption = None) -> None:
    """Start a worker, which runs training jobs from the queue."""
    from service.jobs.worker import WorkerNameTaken, run_worker

    settings = read_settings_or_exit(home=home)
    _begin("worker", settings)
    try:
        run_worker(settings)
    except WorkerNameTaken as error:
        fail(str(error), code=MISUSED)


@cli.command()
def mirror(
    home: HomeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Catch up once and end; status 1 when it could not.")] = False,
) -> None:
    """Mirror versions and aliases to the MLflow of VITRINE_MLFLOW_TRACKING_URI."""
    from models.errors import TrackingNotUsable
    from service.mirror import MirrorInUse, run_mirror

    settings = read_settings_or_exit(home=home)
    _begin("mirror", settings)
    try:
        raise typer.Exit(run_mirror(settings, once=once))
    except (TrackingNotUsable, MirrorInUse) as error:
        fail(str(error), code=1)


cli.command()(jobs.train)
cli.command()(jobs.retrain)
cli.add_typer(schedules.app, name="schedules")
cli.add_typer(jobs.app, name="jobs")
cli.command()(online.predict)
cli.command()(online.explain)
cli.add_typer(predictions.app, name="predictions")
cli.add_typer(datasets.app, name="datasets")
cli.add_typer(models.app, name="models")
cli.command()(doctor.doctor)


@cli.callback(invoke_without_command=True)
def program(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("vitrine"))
        raise typer.Exit


def _begin(part: str, settings: Settings) -> None:
    from service.logs import configure_logging
    from service.processes import hold_lifeline

    hold_lifeline()
    configure_logging(part, log_format=settings.log_format, log_level=settings.log_level)


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
