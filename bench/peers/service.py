"""A peer that is a process of its own, and the cheapest way to order chains from it: lines over a loopback connection.

A line to the peer is the uid of a chain to run. A line from it is the uid of one that ended, and where that chain
failed a tab and the error.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from bench.subjects import Absent
from bench.waiting import Waiting
from local import ports
from local.environment import ROOT, Environment
from local.tree import ChildFailed, ChildSpec, listens


async def start_process(
    env: Environment,
    name: str,
    command: Sequence[str],
    *,
    ready: Callable[[], bool] | None = None,
    settings: Mapping[str, str] | None = None,
) -> None:
    """A process of the environment's tree, with its settings. Raises Absent with the end of its log if it won't run."""
    spec = ChildSpec(
        name=name,
        command=command,
        env={**env.env, **(settings or {}), "PYTHONUNBUFFERED": "1"},
        cwd=ROOT,
        ready=ready,
        ready_timeout_seconds=60,
    )
    try:
        await asyncio.to_thread(env.tree.start, spec)
    except (ChildFailed, OSError) as failed:
        raise Absent(f"{name} did not start: {failed}") from failed


async def stop_processes(env: Environment, names: Sequence[str]) -> None:
    """Those of them that run, in this order."""
    for name in names:
        if name in env.tree.names:
            await asyncio.to_thread(env.tree.stop, name)


class Service:
    """The benchmark's end of `python -m MODULE PORT`, which runs chains by `serve`; as many processes as are wanted."""

    def __init__(self, env: Environment, module: str, count: int = 1) -> None:
        stem = "peer-" + module.rpartition(".")[2].replace("_", "-")
        self._lines = [_Line(env, module, f"{stem}-{number}") for number in range(1, count + 1)]

    @property
    def processes(self) -> Sequence[str]:
        """Their names in the environment's tree."""
        return [line.name for line in self._lines]

    async def start(self) -> None:
        """Returns when all take chains. Raises Absent with the end of the log of one that does not come up."""
        for line in self._lines:
            await line.start()

    async def chain(self, uid: str) -> None:
        """On the process with the fewest. Raises RuntimeError with the peer's error, and where it died meanwhile."""
        await min(self._lines, key=lambda line: line.busy).chain(uid)

    async def stop(self) -> None:
        for line in self._lines:
            await line.stop()


class _Line:
    """One process and the connection to it."""

    def __init__(self, env: Environment, module: str, name: str) -> None:
        self._env = env
        self._module = module
        self.name = name
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting = Waiting()

    @property
    def busy(self) -> int:
        return len(self._waiting)

    async def start(self) -> None:
        port = ports.choose(0, what=self.name)
        command = [sys.executable, "-m", self._module, str(port)]
        await start_process(self._env, self.name, command, ready=listens(port))
        reader, self._writer = await asyncio.open_connection(ports.LOOPBACK, port)
        self._reading = asyncio.create_task(self._read(reader))

    async def chain(self, uid: str) -> None:
        if self._writer is None or self._reading is None or self._reading.done():
            raise RuntimeError(f"{self.name} does not run")
        ended = self._waiting.ask(uid)
        self._writer.write(f"{uid}\n".encode())
        await ended

    async def stop(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            await self._reading
        await stop_processes(self._env, [self.name])

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while line := (await reader.readline()).decode().rstrip("\n"):
                uid, _, error = line.partition("\t")
                self._waiting.answer(uid, error)
        self._waiting.answer_all(f"{self.name} ended before the chain")


async def serve(run: Callable[[str], Awaitable[object]]) -> None:
    """The peer's end: run every chain that comes, all at once, on the port of the command line, until SIGTERM."""
    stop = asyncio.Event()
    running: set[asyncio.Task[None]] = set()

    async def one(uid: str, writer: asyncio.StreamWriter) -> None:
        try:
            await run(uid)
        except Exception as error:  # noqa: BLE001 - whatever it is, the benchmark has to hear of it
            writer.write(f"{uid}\t{' '.join(repr(error).split())}\n".encode())
        else:
            writer.write(f"{uid}\n".encode())

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode().strip():
            task = asyncio.create_task(one(line, writer))
            running.add(task)
            task.add_done_callback(running.discard)
        writer.close()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await asyncio.start_server(connected, ports.LOOPBACK, int(sys.argv[1])):
        await stop.wait()
