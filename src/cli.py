"""The `cluster` command: words in, words out; what they mean is in `cluster/`.

Each command imports what it needs when it runs, so that `--help` is there at once.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

_BEGAN = time.perf_counter()

import click  # noqa: E402 - what its import takes belongs to the time that `start` reports

from . import rendezvous  # noqa: E402
from .errors import ClusterError, EngineryError, NoClusterError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .cluster import local
    from .cluster.control import Control


T = TypeVar("T")
N = TypeVar("N")


class _Commands(click.Group):
    """Commands whose errors are a sentence on stderr and exit code 1, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough; click ends quietly
        except EngineryError as error:
            click.echo(str(error), err=True)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            click.echo(f"{error.strerror or error}{where}", err=True)
        return ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cluster() -> None:
    """Start, watch and stop clusters of engines on this machine.

    Commands that need a running cluster take the only one, or the one named "default", unless a name is given.
    """


_named = click.argument("name", required=False)
_name = click.option("--name", "option", metavar="NAME", help="Which cluster.")
_timeout = click.option("--timeout", type=float, default=30.0, show_default=True, metavar="SECONDS", help="How long.")
_force = click.option("--force", is_flag=True, help="Insist on more engines than seem to fit into memory.")

# ------------------------------------------------------------------------------------------------------------- start


@cluster.command()
@click.option("-n", "--engines", type=int, help="How many engines.  [default: one per core]")
@click.option("--name", default=rendezvous.DEFAULT_NAME, show_default=True, help="What to call the cluster.")
@click.option("--foreground", is_flag=True, help="Stay, show the logs, and stop the cluster at Ctrl-C or SIGTERM.")
@click.option("--no-fork", is_flag=True, help="Start each engine as a fresh process, not from a prepared template.")
@click.option("--preload", metavar="MODULE,...", default="", help="Modules that all engines have from their start.")
@click.option("--listen", metavar="HOST[:PORT]", help="Listen on TCP, encrypted, instead of on a Unix socket.")
@click.option("--keep", default="7d", show_default=True, metavar="TIME", help="How long results are kept.")
@click.option("--keep-bytes", default="2GB", show_default=True, metavar="SIZE", help="How many bytes are kept.")
@click.option("--threads", type=click.IntRange(min=0), metavar="N", help="Threads of BLAS and OpenMP in each engine.")
@click.option("--resources", metavar="NAME=AMOUNT", multiple=True, help="What the host offers to tasks, like gpu=2.")
@click.option("--memory-limit", metavar="SIZE", help="Shared memory for large values.  [default: half of all memory]")
@click.option("--object-min", default="1MB", show_default=True, metavar="SIZE", help="Size of a large value.")
@click.option("--spill", metavar="DIR", help="Where large values go beyond the limit.  [default: in /var/tmp]")
@click.option("--no-journal", is_flag=True, help="Write nothing down: the controller's death is the cluster's end.")
@_timeout
@_force
def start(
    *,
    engines: int | None,
    name: str,
    foreground: bool,
    no_fork: bool,
    preload: str,
    listen: str | None,
    keep: str,
    keep_bytes: str,
    threads: int | None,
    resources: tuple[str, ...],
    memory_limit: str | None,
    object_min: str,
    spill: str | None,
    no_journal: bool,
    timeout: float,
    force: bool,
) -> None:
    """Start a cluster. Returns when all its engines answer."""
    from .cluster import limits, local

    count = (os.cpu_count() or 1) if engines is None else engines
    limits.check_count(count, force=force)
    modules = [module.strip() for module in preload.split(",") if module.strip()]
    kept_s, kept_bytes = _measured(limits.seconds, keep), _measured(limits.nbytes, keep_bytes)
    offered = _measured(limits.parse_resources, resources)
    options = local.Options(
        count,
        not no_fork,
        modules,
        listen,
        timeout,
        not no_journal,
        kept_s,
        kept_bytes,
        threads=threads,
        resources=offered,
        memory_limit=None if memory_limit is None else _measured(limits.nbytes, memory_limit),
        object_min=_measured(limits.nbytes, object_min),
        spill=spill,
    )
    nanny = local.start(name, options, owned=foreground)
    try:
        with _control(nanny.directory, nanny.is_alive) as control:
            control.wait_engines(max(1.0, timeout - (time.perf_counter() - _BEGAN)))
        _greet(name, count, foreground=foreground)
        if foreground:
            _stay(nanny)
    except BaseException:
        nanny.stop()
        raise


def _greet(name: str, count: int, *, foreground: bool) -> None:
    took = time.perf_counter() - _BEGAN
    argument, suffix = ("", "") if name == rendezvous.DEFAULT_NAME else (f'"{name}"', f" {name}")
    click.echo(f"cluster {name}: {_engines(count)} ready in {took:.2f} s")
    click.echo(f"  connect  enginery.Client({argument})")
    click.echo(f"  stop     {'Ctrl-C' if foreground else f'cluster stop{suffix}'}")


def _stay(nanny: local.Nanny) -> None:
    """Show the logs until the cluster ends or somebody wants it to."""
    from .cluster import logs

    def leave(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    name = nanny.directory.name
    try:
        for line in logs.follow(nanny.directory, None, nanny.is_alive):
            click.echo(line)
    except KeyboardInterrupt:
        nanny.stop()
        click.echo(f"cluster {name} is stopped")
        return
    raise ClusterError(f"cluster {name} has ended")


# -------------------------------------------------------------------------------------------------------------- look


@cluster.command()
@_named
@_name
def status(name: str | None, option: str | None) -> None:
    """Show a cluster: its engines, their tasks, its clients."""
    from .cluster import show

    with _running(_either(name, option)) as control:
        click.echo(show.status(control.status()))


@cluster.command()
@_named
@_name
@click.option("--explain", "object_", metavar="OBJECT", help="Say why this one is alive.")
def objects(name: str | None, option: str | None, object_: str | None) -> None:
    """Show the large values in a cluster's memory: where each is, and who holds it."""
    from . import holders
    from .cluster import show
    from .wire.objects import show_object

    with _running(_either(name, option)) as control:
        stock = control.objects()
    if object_ is None:
        click.echo(show.stock(stock))
        return
    records = [record for record in stock.objects if show_object(record.id) == object_]
    if not records:
        raise ClusterError(f'there is no object {object_}; "cluster objects" shows those there are')
    for record in records:
        click.echo(holders.explain(record))


@cluster.command("list")
def list_() -> None:
    """List the clusters of this user on this machine."""
    from .cluster import show

    infos = rendezvous.list_clusters()
    if not infos:
        click.echo("no cluster is running")
        return
    click.echo(show.clusters(infos))
    if any(not info.running for info in infos):
        click.echo('dead clusters have left files behind; "cluster clean" clears them', err=True)


@cluster.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the cluster ends.")
@click.argument("engine", required=False, type=int)
@_name
def logs(follow: bool, engine: int | None, option: str | None) -> None:
    """Show what a cluster has logged, or what one engine has written to its standard output."""
    from .cluster import logs as logs_

    directory = _logs_dir(option)
    if engine is not None and not follow:
        logs_.check_engine(directory, engine)
    lines = (
        logs_.follow(directory, engine, lambda: rendezvous.is_running(directory))
        if follow
        else logs_.read(directory, engine)
    )
    with contextlib.suppress(KeyboardInterrupt):
        for line in lines:
            click.echo(line)


def _logs_dir(name: str | None) -> Path:
    """Return the folder of the cluster; the logs of one that has died are worth reading too."""
    if name is not None and rendezvous.cluster_dir(name).is_dir():
        return rendezvous.cluster_dir(name)
    return rendezvous.find_dir(name)


@cluster.command()
@click.argument("engine", type=int)
@_name
def console(engine: int, option: str | None) -> None:
    """Open a Jupyter console on an engine: it shares the engine's variables with its tasks."""
    from .client.views import consoles

    command = consoles.console_command(_attach(engine, option))
    os.execv(command[0], command)  # noqa: S606 - no shell in between


@cluster.command()
@click.argument("engine", type=int)
@click.option("--detach", is_flag=True, help="Close the engine's Jupyter channels again.")
@_name
def attach(engine: int, detach: bool, option: str | None) -> None:
    """Open an engine's Jupyter channels, and print the connection file for any front end.

    The engine goes on with its tasks; what front ends run, runs between them.
    """
    if not detach:
        click.echo(_attach(engine, option))
        return
    with _running(option) as control:
        was = control.ask_engine(engine, "detach")
    click.echo(f"engine {engine} is detached" if was else f"nothing was attached to engine {engine}")


def _attach(engine: int, option: str | None) -> str:
    """Return the connection file of an engine."""
    from .client.views import consoles

    with _running(option) as control:
        return consoles.connection_file(engine, control.ask_engine(engine, "attach"))


@cluster.command()
def version() -> None:
    """Show the version."""
    from importlib.metadata import version as version_of

    click.echo(f"enginery {version_of('enginery')}")


# ------------------------------------------------------------------------------------------------------------- steer


@cluster.command()
@click.option("-n", "--engines", type=int, required=True, help="How many engines to have.")
@_name
@_timeout
@_force
def scale(engines: int, option: str | None, timeout: float, force: bool) -> None:
    """Have more or fewer engines. Returns when the new ones answer and the surplus ones have finished and gone."""
    from .cluster import limits

    limits.check_count(engines, force=force)
    with _running(option) as control:
        ids = control.scale(engines, timeout)
        click.echo(f"cluster {control.connection.cluster}: {_engines(len(ids))}")


@cluster.command()
@click.argument("ids", nargs=-1)
@_name
@_timeout
def restart(ids: tuple[str, ...], option: str | None, timeout: float) -> None:
    """Replace engines by fresh ones with the same ids: those named (`0 2`, `0,2`, `4-7`), else all."""
    chosen = _parse_ids(ids)
    with _running(option) as control:
        done = control.restart(chosen, timeout)
        click.echo(f"cluster {control.connection.cluster}: {_engines(len(done))} restarted")


@cluster.command()
@_named
@_name
@click.option("--all", "everything", is_flag=True, help="Stop all clusters of this user on this machine.")
def stop(name: str | None, option: str | None, everything: bool) -> None:
    """Stop a cluster, and everything in it."""
    from .cluster import local

    chosen = _either(name, option)
    if everything and chosen is not None:
        raise click.UsageError("give a name or --all, not both")
    if everything:
        directories = [info.directory for info in rendezvous.list_clusters() if info.running]
        if not directories:
            click.echo("no cluster is running")
    else:
        directories = [_found_or_cleared(chosen)]
    for directory in directories:
        local.stop(directory)
        click.echo(f"cluster {directory.name} is stopped")


def _found_or_cleared(name: str | None) -> Path:
    """Return the folder of a running cluster; if it is dead, nothing of it is left, and that is an error."""
    from .cluster import local

    try:
        return rendezvous.find_dir(name)
    except NoClusterError:
        with contextlib.suppress(ClusterError):  # the first one says it
            if name is not None:
                local.clear(rendezvous.cluster_dir(name))
        raise


@cluster.command()
@click.option("--journals", is_flag=True, help="Also remove the results that stopped clusters keep.")
def clean(*, journals: bool) -> None:
    """Clear what dead clusters have left behind: processes, shared memory, sockets, files.

    What stopped clusters keep of their results is no such thing, and stays unless you say --journals.
    """
    from .cluster import local

    cleared = local.clean()
    for name, found in cleared:
        click.echo(f"cluster {name}: cleared {', '.join(found)}")
    forgotten = local.forget() if journals else []
    for kept in forgotten:
        click.echo(f"cluster {kept.name}: removed its results ({_megabytes(kept.nbytes)})")
    if not (cleared or forgotten):
        click.echo("there is nothing to clear")
    try:
        left = local.kept()
    except ClusterError:  # with --journals it has been raised above
        left = []  # without a folder for journals there is nothing to point at, and what was asked for is done
    if left:
        whose = "a stopped cluster keeps its" if len(left) == 1 else f"{len(left)} stopped clusters keep their"
        nbytes = _megabytes(sum(kept.nbytes for kept in left))
        click.echo(f'{whose} results ({nbytes}); "cluster clean --journals" removes them', err=True)


# ------------------------------------------------------------------------------------------------------------- prove


@cluster.command()
@click.option("--minutes", type=float, default=5.0, show_default=True, help="How long.")
@click.option("--seed", type=click.IntRange(min=0), help="Which drill: the same seed, the same faults.  [default: any]")
@click.option("-n", "--engines", type=int, default=4, show_default=True, help="How many engines.")
@click.option("--tasks", type=click.IntRange(min=1), help="How many tasks, about.  [default: up to 40,000 a minute]")
@click.option("--faults", metavar="KIND,...", default="all", show_default=True, help="Which kinds of faults.")
@click.option("--no-fork", is_flag=True, help="Start each engine as a fresh process, not from a prepared template.")
@click.option("--listen", metavar="HOST[:PORT]", help="Listen on TCP, encrypted, instead of on a Unix socket.")
@click.option("--timeout", type=float, default=30.0, show_default=True, metavar="SECONDS", help="How long to start.")
def drill(
    *,
    minutes: float,
    seed: int | None,
    engines: int,
    tasks: int | None,
    faults: str,
    no_fork: bool,
    listen: str | None,
    timeout: float,
) -> None:
    """Prove that nothing is lost: hurt a cluster in every way while it works, and account for every task.

    The drill has a cluster of its own, and stops it at the end; your clusters are not touched. It exits with 1 if a
    task is lost without a reason, hangs, ends wrongly or runs twice, or if anything of the cluster is left.

    \b
    Kinds of faults; a first word names all of its sort (`engine,cut`):
      engine-kill, engine-segv, engine-term, engine-stop, zygote-kill,
      nanny-stop, controller-kill, controller-stop,
      client-kill, client-stop, cut, freeze
    """  # noqa: D301 - not a backslash but click's mark for lines that are to stay as they are
    from .cluster import limits
    from .drill import drill as drill_
    from .drill import schedule

    limits.check_count(engines)
    if minutes <= 0:
        raise click.UsageError(f"a drill takes more than {minutes:g} minutes")
    kinds = schedule.parse(faults)
    chosen = time.time_ns() // 1000 % 1_000_000 if seed is None else seed
    options = drill_.Options(minutes, chosen, engines, tasks, kinds, not no_fork, listen, timeout)
    click.echo(f"drill {chosen}: {_engines(engines)}, {minutes:g} min, {len(kinds)} kinds of faults")
    result = drill_.run(options, click.echo)
    click.echo(result.table)
    for complaint in result.complaints:
        click.echo(complaint, err=True)
    if not result.is_good:
        again = f"cluster drill --seed {chosen} --minutes {minutes:g} -n {engines} --faults {','.join(kinds)}"
        raise ClusterError(f"not all is accounted for; to have the same faults again: {again}")
    click.echo(
        "all is accounted for: nothing is lost without a reason, nothing hangs, nothing ran twice, nothing is left"
    )


# ----------------------------------------------------------------------------------------------------------- helpers


def _either(name: str | None, option: str | None) -> str | None:
    if name is not None and option is not None and name != option:
        raise click.UsageError(f"two names are given, {name} and {option}")
    return name if name is not None else option


def _measured(parse: Callable[[T], N], text: T) -> N:
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _parse_ids(texts: tuple[str, ...]) -> list[int] | None:
    if not texts:
        return None
    ids: list[int] = []
    for part in ",".join(texts).split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise click.UsageError(f"{part!r} names no engine: write ids like 0 2, or a range like 4-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first > 100_000:
            raise click.UsageError(f"{part} is too long a range")
        ids.extend(range(first, last + 1))
    return ids


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB"


def _engines(count: int) -> str:
    return "1 engine" if count == 1 else f"{count} engines"


def _control(directory: Path, is_alive: Callable[[], bool]) -> Control:
    from .cluster.control import Control

    return Control(rendezvous.find(directory / rendezvous.CLIENT_FILE), alive=is_alive)


def _running(name: str | None) -> Control:
    directory = rendezvous.find_dir(name)
    return _control(directory, lambda: rendezvous.is_running(directory))


def main() -> None:
    """Run the command."""
    cluster(prog_name="cluster")
