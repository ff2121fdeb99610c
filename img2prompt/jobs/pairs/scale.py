"""Shard workers on many machines: Ray Data hands out the tasks and gives those of a killed worker to another one.

The work itself is idempotent (a task writes its file atomically, and one whose file stands only reports it), so this
module knows nothing of it: tasks in, reports out, as they are finished.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from img2prompt.errors import ClusterError, Img2PromptError, OutputError
from img2prompt.jobs.options import number

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "local"
TIMEOUT_S = 1800.0

Run = Callable[..., Iterator[Any]]  # (work, tasks, arguments=()): `in_turn`, or what `on_ray` gives


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where tasks run, what one takes, and how long to wait.

    Attributes:
        address: "local" starts Ray on this machine for as long as the work lasts; HOST:PORT of a head node, or "auto"
            for the one that runs on this machine, joins a cluster.
        workers: of a local cluster; None takes all processors but one, which hands out the work.
        cpus_per_task: that a task occupies.
        gpus_per_task: likewise.
        timeout_s: in which at least one task has to be finished.
        attempts: of a task whose worker is killed, in all.
    """

    address: str = LOCAL
    workers: int | None = None
    cpus_per_task: float = 1
    gpus_per_task: float = 0
    timeout_s: float = TIMEOUT_S
    attempts: int = 4


def add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    """The options --ray and --ray-timeout of a job that can run on Ray."""
    parser.add_argument(
        "--ray",
        metavar="ADDRESS|local",
        help="run on Ray: local, or HOST:PORT of a cluster whose machines share these folders (extra: scale)",
    )
    parser.add_argument(
        "--ray-timeout",
        type=number(float, 1),
        default=TIMEOUT_S,
        metavar="S",
        help=f"seconds in which at least one shard has to be finished on Ray (default: {TIMEOUT_S:g})",
    )


def run_many(
    work: Callable[[T], R] | type[Any],
    tasks: Sequence[T],
    *,
    cluster: Cluster,
    folder: Path,
    arguments: Sequence[Any] = (),
) -> Iterator[R]:
    """Yields what `work` makes of each task, in the order in which they are finished.

    Args:
        work: a function; or a class whose instances are called with a task, of which every worker process keeps one
            (an actor), for work that needs a model. Other machines import it by its name.
        tasks: picklable.
        cluster: where it runs.
        folder: one that all machines have to share; every task looks whether its machine does.
        arguments: for the class.

    Raises:
        MissingExtra: Ray is not installed.
        ConfigError: the address is none.
        ClusterError: the cluster cannot be reached, stands still, or lost a worker too often.
        Img2PromptError: what the work itself raised, the first of it.
    """
    from img2prompt.jobs.pairs.scale_ray import Ground, answers, connected

    if not tasks:
        return
    with connected(cluster), _mark(folder) as mark:
        made = answers(tasks, work, tuple(arguments), cluster, Ground(Path.cwd(), mark))
        for answer in _patiently(made, cluster, len(tasks)):
            if isinstance(answer, Img2PromptError):
                raise answer
            yield answer


def in_turn(work: Callable[[T], R] | type[Any], tasks: Sequence[T], arguments: Sequence[Any] = ()) -> Iterator[R]:
    """`run_many` in this process, one task after the other."""
    if tasks:
        yield from map(work(*arguments) if isinstance(work, type) else work, tasks)


@contextlib.contextmanager
def on_ray(cluster: Cluster, folder: Path) -> Iterator[Run]:
    """`run_many` for several rounds of work on one cluster.

    Raises:
        MissingExtra, ConfigError, ClusterError: see `run_many`.
    """
    from img2prompt.jobs.pairs.scale_ray import connected

    with connected(cluster):
        yield functools.partial(run_many, cluster=cluster, folder=folder)


@contextlib.contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    """A file of which other machines know when they share the folder; its name is one that cleaning up removes."""
    mark = folder.resolve() / f".{uuid.uuid4().hex}.tmp"
    try:
        mark.touch()
        yield mark
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}; choose a place that can be written") from error
    finally:
        mark.unlink(missing_ok=True)


def _patiently(answers: Iterator[R], cluster: Cluster, count: int) -> Iterator[R]:
    """The same answers, from a thread: Ray waits for ever where a machine or network has fallen silent."""
    box: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    stopped = threading.Event()

    def feed() -> None:
        try:
            for answer in answers:
                box.put(("answer", answer))
                if stopped.is_set():
                    break
            box.put(("end", None))
        except BaseException as error:
            box.put(("error", error))

    threading.Thread(target=feed, daemon=True).start()
    finished = 0
    try:
        while True:
            kind, value = box.get(timeout=cluster.timeout_s)
            if kind == "end":
                return
            if kind == "error":
                raise value
            finished += 1
            yield value
    except queue.Empty:
        raise ClusterError(
            f"{cluster.address}: no shard was finished in {cluster.timeout_s:g} s ({finished} of {count} stand);"
            f" {advice(cluster)}, or take a longer --ray-timeout if a shard needs that long"
        ) from None
    finally:
        stopped.set()


def advice(cluster: Cluster) -> str:
    """What to do about a cluster that does not work; part of a line."""
    if cluster.address == LOCAL:
        return "finished shards stay, run the same command again to go on"
    return f"look at `ray status --address {cluster.address}`, then run the same command again to go on"
