"""Threads for work that waits for the object store, with a limit on what they hold in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(item)` for each item in order, with only a few items per thread in progress or finished."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * THREADS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def ahead(load: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `load(item)` for each item in order, and load the next one while the caller uses the current one."""
    current: Future[Result] | None = None
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            upcoming = pool.submit(load, item)
            if current is not None:
                yield current.result()
            current = upcoming
        if current is not None:
            yield current.result()
