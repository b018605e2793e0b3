"""A question under way: it is asked in a thread of its own, so that the page stays alive and can stop it at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

from counterpoint import AsyncCounterpoint, Chunk, CounterpointError, ExpertAnswer, Explanation, Pool, Route

LOOK_S = 1.5
"""Seconds between two looks at the pool while an answer is awaited."""

MOST_DRAFTS = 20

Connect = Callable[[Callable[[float], Awaitable[object]]], AsyncCounterpoint]
"""Makes a client that waits by a function of ours."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What has come so far.

    Attributes:
        text: The answer's words.
        id: The endpoint's name for it.
        route: Who is asked.
        answers: What the experts said, as it came.
        drafts: Answers that the mixture went on from.
        account: The whole account, at the end.
        corrected: Whether the words are others than those that came first.
        pool: How the pool stands, where the key may see it.
        paused_until: When a refused request is sent again, by the monotonic clock.
        error: Why there is no answer.
        stopped: Whether somebody stopped it.
        ended: Whether nothing more comes.
        seconds: Seconds that it took, when it has ended.
    """

    text: str = ""
    id: str = ""
    route: Route | None = None
    answers: tuple[ExpertAnswer, ...] = ()
    drafts: tuple[ExpertAnswer, ...] = ()
    account: Explanation | None = None
    corrected: bool = False
    pool: Pool | None = None
    paused_until: float | None = None
    error: CounterpointError | None = None
    stopped: bool = False
    ended: bool = False
    seconds: float = 0.0

    def after(self, chunk: Chunk) -> Progress:
        r"""Take a piece of the stream.

        Example:
            >>> came = Progress().after(Chunk("no")).after(Chunk("\n\nyes", correction=True)).after(Chunk(" sir", correction=True))
            >>> came.text
            'yes sir'
        """
        back = chunk.correction and not self.corrected
        return replace(
            self,
            text=chunk.text.lstrip() if back else self.text + chunk.text,
            corrected=self.corrected or chunk.correction,
            id=chunk.id or self.id,
            route=chunk.route or self.route,
            answers=(*self.answers, chunk.answer) if chunk.answer else self.answers,
            drafts=(*self.drafts, chunk.draft)[-MOST_DRAFTS:] if chunk.draft else self.drafts,
            account=chunk.explanation or self.account,
            paused_until=None,
        )


class Question:
    """Asks in the background.

    Args:
        connect: Makes the client; it is closed in the end.
        messages: The conversation.
        model: Who is asked; None is the client's own.
        settings: Settings of the question.

    Attributes:
        progress: What has come so far; replaced as a whole, so it can be read at any time.
    """

    def __init__(
        self, connect: Connect, messages: Sequence[Mapping[str, str]], model: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.progress = Progress()
        self.model = model
        self.began = time.monotonic()
        self._connect, self._messages, self._settings = connect, messages, settings or {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, daemon=True, name="question")

    def start(self) -> Question:
        """Ask."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it; the connection is closed at once, and with it the experts' work."""
        with self._lock:
            if self.progress.ended:
                return
            self._change(stopped=True)
            if self._loop is not None and self._task is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._task.cancel)

    def wait(self, seconds: float) -> bool:
        """Wait for the end, and say whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self.progress = replace(self.progress, **changes)

    def _run(self) -> None:
        try:
            asyncio.run(self._ask())
        except CounterpointError as error:
            self._change(error=None if self.progress.stopped else error)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # a fault of ours must not look like an answer without words
            self._change(error=CounterpointError(f"the page could not ask ({type(error).__name__}: {error})"))
        finally:
            self._change(ended=True, seconds=time.monotonic() - self.began, paused_until=None)

    async def _pause(self, seconds: float) -> None:
        self._change(paused_until=time.monotonic() + seconds)
        await asyncio.sleep(seconds)

    async def _ask(self) -> None:
        with self._lock:
            if self.progress.stopped:
                return
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with self._connect(self._pause) as mixture:
            looking = asyncio.create_task(self._look())
            try:
                async with aclosing(mixture.stream(self._messages, model=self.model, explain=True, **self._settings)) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        with self._lock:
                            self.progress = self.progress.after(chunk)
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking

    async def _look(self) -> None:
        """Look at the pool now and then, as long as the key may; by a client of its own, whose waits are not the question's."""
        with suppress(CounterpointError):
            async with self._connect(asyncio.sleep) as mixture:
                while True:
                    pool = await mixture.pool(since=time.time())
                    self._change(pool=replace(pool, samples=()))
                    await asyncio.sleep(LOOK_S)
