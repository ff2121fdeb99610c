"""The part of `scale` that speaks with Ray: connecting with a time limit, handing out tasks, and what a worker does."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import pickle
import queue
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ClusterError, ConfigError, Img2PromptError
from img2prompt.extras import need
from img2prompt.jobs.pairs.scale import LOCAL, Cluster, advice

if TYPE_CHECKING:
    Row = dict[str, Any]  # {"number", "task"} on the way out, {"number", "answer"} on the way back; both pickled

# Nothing is reported to anyone; a thread that outlives its cluster must not start another; errors are said here, once.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}
# What Ray does on macOS and Windows by itself: the sockets of a cluster of one machine are on 127.0.0.1 alone.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

_REACH_S = 10.0  # for a head node to take a connection
_START_S = 90.0  # for Ray to connect, or to start on a busy machine
_END_S = 20.0  # for Ray to end
_STORE_BYTES = 128 << 20  # of the local object store: tasks and reports are small, rows go from file to file


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Ray, for as long as the context lasts; where Ray runs in this process already, that.

    Raises:
        MissingExtra: Ray is not installed.
        ConfigError: the address is none.
        ClusterError: the cluster cannot be reached.
    """
    local = cluster.address == LOCAL
    for name, value in {**ENVIRONMENT, **(LOOPBACK if local else {})}.items():
        os.environ.setdefault(name, value)  # before Ray is imported, which is when it looks
    need("ray.data", "scale")
    ray: Any = need("ray", "scale")
    if ray.is_initialized():
        yield
        return
    if not local and cluster.address != "auto":
        _reach(cluster.address)
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if local:
        settings |= {"num_cpus": cluster.workers or _spare_cpus(), "object_store_memory": _STORE_BYTES}
        settings |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    session = _Session(lambda: ray.init(address=cluster.address, **settings), ray.shutdown)
    try:
        session.begin(_START_S)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ClusterError(f"{cluster.address}: Ray gives no cluster ({_line(error)}); {advice(cluster)}") from error
    _hush()
    try:
        yield
    finally:
        session.end(_END_S)


class _Session(threading.Thread):
    """Begins and ends something that may wait for ever in either, while others wait only so long.

    One thread does both: the processes that Ray starts end with the thread that started them.
    """

    def __init__(self, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._begin, self._end = begin, end
        self._begun: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._over = threading.Event()

    def run(self) -> None:
        """Begins, waits to be told, ends."""
        try:
            self._begin()
        except BaseException as error:
            self._begun.put(error)
            return
        self._begun.put(None)
        self._over.wait()
        self._end()

    def begin(self, limit_s: float) -> None:
        """Returns when it has begun.

        Raises:
            TimeoutError: it takes longer.
        """
        self.start()
        try:
            error = self._begun.get(timeout=limit_s)
        except queue.Empty:
            self._over.set()
            raise TimeoutError(f"no answer in {limit_s:g} s") from None
        if error is not None:
            raise error

    def end(self, limit_s: float) -> None:
        """Returns when it has ended, or takes longer: then it is left to itself."""
        self._over.set()
        self.join(limit_s)
        if self.is_alive():
            atexit.register(_leave)  # measured: Ray waits again when the process ends, or ends it by SIGSEGV


def _leave() -> None:
    """Ends the process as a failed command; what was said has been said."""
    print(end="", flush=True)
    os._exit(2)


def _hush() -> None:
    """Keeps to its files what Ray Data would say on the terminal about tasks that failed; errors say it here."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def answers(
    tasks: Sequence[Any], work: Any, arguments: tuple[Any, ...], cluster: Cluster, ground: Ground
) -> Iterator[Any]:
    """What the workers answer to the tasks, as they are finished: a report, or the Img2PromptError of a task.

    Raises:
        ClusterError: workers of one task were killed again and again.
    """
    import ray
    from ray.data import ActorPoolStrategy

    rows = [{"number": number, "task": pickle.dumps(task)} for number, task in enumerate(tasks)]
    dataset: Any = ray.data.from_items(rows, override_num_blocks=len(rows))  # a block a task: what a kill loses
    dataset.context.enable_progress_bars = False
    if hasattr(dataset.context, "execution_no_progress_timeout_s"):  # since 2.60; ours is the one that counts
        dataset.context.execution_no_progress_timeout_s = -1
    options: dict[str, Any] = {"num_cpus": cluster.cpus_per_task}
    if cluster.gpus_per_task:
        options["num_gpus"] = cluster.gpus_per_task
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray means to drop the options of retries; without them it retries for ever
        if isinstance(work, type):
            pool = ActorPoolStrategy(min_size=1, max_size=len(rows))
            made = dataset.map(
                Actor,
                fn_constructor_args=(ground, work, arguments),
                compute=pool,
                max_task_retries=cluster.attempts - 1,
                **options,
            )
        else:
            made = dataset.map(answer, fn_args=(ground, work), max_retries=cluster.attempts - 1, **options)
    try:
        for batch in made.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for packed in batch["answer"].to_pylist():
                yield pickle.loads(packed)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.RayActorError, ray.exceptions.NodeDiedError) as error:
        raise ClusterError(
            f"{cluster.address}: the worker of a shard was killed {cluster.attempts} times (out of memory?)"
            f" ({_line(error)}); {advice(cluster)}"
        ) from error


@dataclass(frozen=True, slots=True)
class Ground:
    """What the machines share.

    Attributes:
        cwd: where the command was given: paths of tasks may be relative to it.
        mark: a file in the folder of the work, made just now.
    """

    cwd: Path
    mark: Path

    def enter(self) -> None:
        """Goes there.

        Raises:
            ClusterError: this machine does not share it.
        """
        try:
            os.chdir(self.cwd)
            self.mark.stat()
        except OSError as error:
            raise ClusterError(
                f"{socket.gethostname()}: does not see {error.filename}; every machine has to share {self.mark.parent}"
                f" and {self.cwd} under the same names"
            ) from error


def answer(row: Row, ground: Ground, work: Callable[[Any], Any]) -> Row:
    """What a worker does with a row. A user's error comes back as the answer; a programming error as Ray brings it."""
    try:
        ground.enter()
        made: Any = work(pickle.loads(row["task"]))
    except Img2PromptError as error:
        made = error
    return {"number": row["number"], "answer": pickle.dumps(made)}


class Actor:
    """A worker process with an instance of the class that does the work, made when the first task comes."""

    def __init__(self, ground: Ground, work: type[Any], arguments: tuple[Any, ...]) -> None:
        self._ground, self._work, self._arguments = ground, work, arguments
        self._instance: Any = None

    def __call__(self, row: Row) -> Row:
        return answer(row, self._ground, self._run)

    def _run(self, task: Any) -> Any:
        # Not in the constructor: there Ray would wrap the error of a missing model and try again.
        if self._instance is None:
            self._instance = self._work(*self._arguments)
        return self._instance(task)


def _reach(address: str) -> None:
    """Looks whether anybody listens, which Ray itself tries for a minute, and then ends the process."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise ConfigError(f"--ray {address}: give local, auto, or HOST:PORT of the head node (`ray start --head`)")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"{address}: no Ray head node answers ({_line(error)}); start one with `ray start --head`, or --ray local"
        ) from error


def _spare_cpus() -> int:
    """Processors for the workers of a local cluster; one is left for handing out the work."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable - 1)


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
