"""Time and processes: an event loop in which nothing is real, and everything comes in one order.

Time passes only when `advance` is called, and jumps from one timer to the next. Whatever would run
in a thread runs here, a drawn while later. A process can be stopped, continued and killed: its
callbacks wait meanwhile, or never run again, whatever it had under way.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

SPINNING = 20_000
"""So many callbacks at one moment: somebody runs in circles."""

FIRST_MOMENT = 1_000.0


class Process:
    """Something that can be stopped, continued and killed as a whole. `runs_since`: when it was
    begun, or last continued."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive, self.stopped = True, False
        self.held: list[asyncio.Handle] = []
        self.runs_since = 0.0

    @property
    def runs(self) -> bool:
        """Is it neither stopped nor dead?"""
        return self.alive and not self.stopped


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def this_process() -> Process | None:
    """The process whose code runs now; None: nobody's, the world's own."""
    return _process.get()


class SimulatedLoop(asyncio.AbstractEventLoop):
    """`rng` draws how long a disk takes. `slowest_s`: the longest that it may."""

    def __init__(self, rng: Random) -> None:
        self.slowest_s = 0.004
        self._rng = rng
        self._now = FIRST_MOMENT
        self._ready: deque[tuple[Process | None, asyncio.Handle]] = deque()
        self._timers: list[tuple[float, int, Process | None, asyncio.TimerHandle]] = []
        self._count = self._ran = 0
        self._processes: list[Process] = []

    # ── the world's side ──

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and all that is due in it happen."""
        until = self._now + seconds
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            self._run_ready()
            while self._timers and self._timers[0][0] <= until:
                when, _, process, handle = heapq.heappop(self._timers)
                if not handle.cancelled():
                    if when > self._now:
                        self._now, self._ran = when, 0
                    self._ready.append((process, handle))
                    self._run_ready()
        finally:
            asyncio._set_running_loop(outer)
        self._now = until

    def _run_ready(self) -> None:
        ready = self._ready
        while ready:
            process, handle = ready.popleft()
            if process is not None and not process.runs:
                process.held.append(handle)
            elif not handle.cancelled():
                handle._run()
                self._ran += 1
                assert self._ran < SPINNING, f"something spins at {self._now}: {handle}"

    def launch(self, process: Process, main: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Begin a process, or a new task of one."""
        if process not in self._processes:
            self._processes.append(process)
            process.runs_since = self._now
        context = contextvars.copy_context()
        context.run(_process.set, process)
        return self.create_task(main, context=context)

    def later(self, delay: float, act: Callable[..., object], *args: object) -> None:
        """Have the world itself do something, whoever asks for it and whatever becomes of him."""
        context = contextvars.copy_context()
        context.run(_process.set, None)
        self.call_later(delay, act, *args, context=context)

    def stop_process(self, process: Process) -> None:
        """SIGSTOP."""
        process.stopped = True

    def continue_process(self, process: Process) -> None:
        """SIGCONT: what waited goes on, in its order."""
        process.stopped, process.runs_since = False, self._now
        if process.alive:
            held, process.held = process.held, []
            self._ready.extend((process, handle) for handle in held)

    def kill(self, process: Process) -> None:
        """SIGKILL: nothing of it runs any more."""
        process.alive = False

    def bury(self) -> None:
        """After the end of everything: let every task that is left unwind, so that none is found
        half done by the garbage collector."""
        for process in self._processes:
            process.alive, process.stopped = True, False
            held, process.held = process.held, []
            self._ready.extend((process, handle) for handle in held)
        for _ in range(20):
            left = asyncio.all_tasks(self)
            if not left:
                return
            for task in left:
                task.cancel()
            self.advance(1_000)

    # ── what asyncio asks of a loop ──

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((context.get(_process), handle))
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if context is None:
            context = contextvars.copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, context.get(_process), handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """The call happens after a while, its result arrives after another: a process that is
        killed between the two has done it, and never knows."""
        future = self.create_future()

        def call() -> None:
            try:
                settle, outcome = future.set_result, func(*args)
            except Exception as error:
                settle, outcome = future.set_exception, error
            self.call_later(self._disk_s(), lambda: future.cancelled() or settle(outcome))

        self.call_later(self._disk_s(), call)
        return future

    def _disk_s(self) -> float:
        return self._rng.uniform(0.0002, self.slowest_s)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nobody awaited a task that failed: the tasks that matter are watched by their hosts."""
