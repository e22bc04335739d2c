# SPDX-License-Identifier: Apache-2.0
"""How are many who ask the provider the same at once served by one question?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Questions under way, by digest. Whoever leaves takes the answer from nobody; a failure is everybody's."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, asyncio.Task[T]] = {}

    def __repr__(self) -> str:
        return f"<shared {len(self._under_way)} questions>"

    async def ask(self, digest: bytes, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question of this digest; asks it if nobody has yet."""
        task = self._under_way.get(digest)
        if task is None:
            task = self._under_way[digest] = asyncio.get_running_loop().create_task(question())
            task.add_done_callback(lambda done: self._forget(digest, done))
        return await asyncio.shield(task)

    def _forget(self, digest: bytes, task: asyncio.Task[T]) -> None:
        self._under_way.pop(digest, None)
        # Everyone who waited may be gone; asyncio would complain of an exception nobody saw.
        if not task.cancelled():
            task.exception()
