"""The past, asked of a process of its own.

To know what a projection said last Tuesday, the log is folded up to there: seconds of work, in
which a thread of the master would keep every submission waiting for the interpreter. So a child
does it, at low priority. It is started by the first who asks, keeps the last pasts in its memory,
and ends when its socket closes, however the master ended.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ledger import logs
from ledger.projection.discover import discover
from ledger.projection.past import Pasts, TooFar
from ledger.projection.reader import Answer, Unavailable
from ledger.store.location import open_log
from ledger.store.log import LogFailure

LIMIT_S = 120.0
"""How long a question about the past may take."""

GRACE_S = 20.0
"""How much longer it is waited for, before the child is taken for stuck, and killed."""

CHILD = "import sys; from ledger.master.past import main; main(int(sys.argv[1]))"
MOST_WAITING = 16
NICE = 10
THREADS = 4


class TooMany(Exception):
    """So many wait for an answer about the past that no other may."""


class Past(Protocol):
    """Whoever answers questions about the past."""

    async def ask(
        self, name: str, query: str, position: int, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Answer[Any]:
        """What a query of a projection gave at a commit's end; as `projection.past.Pasts.ask`.

        Raises `TooMany`, too.
        """

    def close(self) -> None:
        """Let go of what it keeps."""


class _Request(NamedTuple):
    number: int
    name: str
    query: str
    position: int
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


class _Reply(NamedTuple):
    """`error`: the name of one of `ERRORS`, or empty."""

    number: int
    value: Any
    error: str = ""


ERRORS: dict[str, type[Exception]] = {
    cls.__name__: cls for cls in (Unavailable, TooFar, ValueError, RuntimeError)
}


def pasts_of(data: Path, url: str | None) -> Pasts:
    """The pasts of all projections that are installed, over the log in a place."""
    return Pasts(discover().projections, lambda: closing(open_log(data, url, write=False)))


class Here:
    """The past asked in threads of this process, where nobody is kept waiting by that."""

    def __init__(self, pasts: Pasts) -> None:
        self._pasts = pasts

    async def ask(
        self, name: str, query: str, position: int, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Answer[Any]:
        """What `Past` says."""
        return await asyncio.to_thread(
            self._pasts.ask, name, query, position, LIMIT_S, *args, **kwargs
        )

    def close(self) -> None:
        """Nothing is kept beyond this process."""


class Apart:
    """The past asked of a child process. A child that died is replaced."""

    def __init__(self, data: Path, url: str | None) -> None:
        self._data, self._url = data, url
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._waiting = 0

    async def ask(
        self, name: str, query: str, position: int, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Answer[Any]:
        """What `Past` says."""
        if self._waiting >= MOST_WAITING:
            raise TooMany
        self._waiting += 1
        try:
            for last in (False, True):
                child = await self._living()
                try:
                    asked = asyncio.to_thread(child.ask, name, query, position, args, kwargs)
                    async with asyncio.timeout(LIMIT_S + GRACE_S):
                        return await asyncio.wrap_future(await asked)
                except TimeoutError:
                    child.kill()
                    raise TooFar(f"it takes longer than {LIMIT_S:.0f} s") from None
                except _Died:
                    if last:
                        raise Unavailable("the process that looks into the past died") from None
            raise AssertionError("the second try gives an answer or an error")
        finally:
            self._waiting -= 1

    async def _living(self) -> "_Child":
        async with self._starting:
            if self._child is None or self._child.dead:
                self._child = await asyncio.to_thread(_Child, self._data, self._url)
            return self._child

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()


class _Died(Exception):
    """The child is gone, and the answer with it."""


class _Child:
    """A process that looks into the past, and the questions that it has not answered yet."""

    def __init__(self, data: Path, url: str | None) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-c", CHILD, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        self._numbers = count(1)
        self._asked: dict[int, Future[Answer[Any]]] = {}
        self._lock = threading.Lock()
        self.dead = False
        with contextlib.suppress(OSError):  # then it is dead, as its listener notices
            self._connection.send((data, url))
        threading.Thread(target=self._listen, name="past", daemon=True).start()

    def ask(
        self, name: str, query: str, position: int, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Future[Answer[Any]]:
        """Ask; the answer to be. Its error is `_Died` where the child did not live to give it."""
        asked: Future[Answer[Any]] = Future()
        with self._lock:
            number = next(self._numbers)
            self._asked[number] = asked
            request = _Request(number, name, query, position, args, kwargs)
            if not self.dead:
                with contextlib.suppress(OSError):  # the listener will say that it is dead
                    self._connection.send(request)
                return asked
            del self._asked[number]
        asked.set_exception(_Died())
        return asked

    def _listen(self) -> None:
        try:
            while True:
                reply: _Reply = self._connection.recv()
                with self._lock:
                    asked = self._asked.pop(reply.number)
                if not asked.set_running_or_notify_cancel():
                    continue
                if reply.error:
                    asked.set_exception(ERRORS[reply.error](reply.value))
                else:
                    asked.set_result(reply.value)
        except Exception:  # the end of the socket; or what it sent can't be read
            self.kill()
            with self._lock:
                self.dead = True
                left, self._asked = list(self._asked.values()), {}
                self._connection.close()
            for asked in left:
                if asked.set_running_or_notify_cancel():
                    asked.set_exception(_Died())
            self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def main(descriptor: int) -> None:
    """Answer what comes over a socket, until it closes."""
    os.nice(NICE)
    logs.quiet()
    connection = Connection(descriptor)
    pasts, sending = pasts_of(*connection.recv()), threading.Lock()

    def answer(request: _Request) -> None:
        reply = _reply(pasts, request)
        with sending, contextlib.suppress(OSError):
            connection.send(reply)

    threads = ThreadPoolExecutor(THREADS)
    with contextlib.suppress(EOFError, OSError):
        while True:
            threads.submit(answer, connection.recv())
    os._exit(0)  # whatever is still being looked for, nobody waits for it


def _reply(pasts: Pasts, request: _Request) -> _Reply:
    number, name, query, position, args, kwargs = request
    try:
        return _Reply(number, pasts.ask(name, query, position, LIMIT_S, *args, **kwargs))
    except LogFailure as error:
        return _Reply(number, f"the log can't be read: {error}", "Unavailable")
    except (Unavailable, TooFar, ValueError) as error:
        kinds = (cls for cls in ERRORS.values() if isinstance(error, cls))
        return _Reply(number, str(error), next(kinds).__name__)
    except Exception as error:
        return _Reply(number, f"{name}.{query} failed: {type(error).__name__}: {error}",
                      "RuntimeError")  # fmt: skip
