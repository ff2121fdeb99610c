"""Work in several processes that end when their parent does."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_processes(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Yields `work(item)` of every item, in the order in which they are finished.

    Args:
        work: picklable, as the items are, when there are several workers.
        items: handed out in their order.
        workers: processes; 1 works in this one.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a worker was killed.
        Exception: the first that `work` raised; items that are not begun are given up.
    """
    if workers <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    # Fresh processes: a fork would copy threads' locks (and keep a folder's lock alive after this process is gone).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=_end_with_parent) as pool:
        try:
            for job in as_completed([pool.submit(work, item) for item in items]):
                yield job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Workers of a killed run must not go on: a pool's processes would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
