"""Collects concurrent requests into one call of the model."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from anyio import to_thread
from fastapi import HTTPException

from request_limits import BUSY, MAX_BYTES, RETRY

MAX_BATCH = 16

# The model gets the content of the requests of one batch, which is in memory.
MAX_BATCH_BYTES = MAX_BYTES

# A request waits at most this long for the batch before its own.
WAIT_SECONDS = 10

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Waiting(Generic[Question, Answer]):
    """A request without an answer yet; its size is in bytes."""

    question: Question
    size: int
    answer: asyncio.Future[Answer]


class Batches(Generic[Question, Answer]):
    """Calls a function in a thread, once at a time, with all requests that came during the call before.

    A request that comes while there is no call does not wait for others.
    """

    def __init__(self, function: Callable[[list[Question]], list[Answer]]) -> None:
        self._function = function
        self._waiting: deque[Waiting[Question, Answer]] = deque()
        self._calls: asyncio.Task[None] | None = None

    async def answer(self, question: Question, size: int) -> Answer:
        """Return the answer to a request of `size` bytes; one that waits too long gets 503."""
        loop = asyncio.get_running_loop()
        waiting = Waiting[Question, Answer](question, size, loop.create_future())
        self._waiting.append(waiting)
        expiry = loop.call_later(WAIT_SECONDS, self._expire, waiting)
        if self._calls is None or self._calls.done():
            self._calls = loop.create_task(self._call())
        try:
            return await waiting.answer
        finally:
            expiry.cancel()

    def _expire(self, waiting: Waiting[Question, Answer]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.answer.set_exception(HTTPException(503, BUSY, RETRY))

    async def _call(self) -> None:
        while self._waiting:
            batch = self._next()
            try:
                answers = await to_thread.run_sync(self._function, [one.question for one in batch])
            except Exception as error:  # noqa: BLE001 - every request of the batch must end
                for one in batch:
                    _end(one.answer, error)
            else:
                for one, answer in zip(batch, answers, strict=True):
                    _end(one.answer, answer)

    def _next(self) -> list[Waiting[Question, Answer]]:
        """Take the requests that waited longest."""
        batch = [self._waiting.popleft()]
        size = batch[0].size
        while self._waiting and len(batch) < MAX_BATCH and size + self._waiting[0].size <= MAX_BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        return batch


def _end(future: asyncio.Future[Answer], result: Answer | Exception) -> None:
    if future.done():  # the client is gone
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
