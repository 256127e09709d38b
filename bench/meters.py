"""CPU time and memory of the processes of a run, by what they are."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping

import psutil

from local.tree import ProcessTree

DRIVER = "benchmark"
"""This process: it starts chains and waits for them, and runs those of the floor itself."""

_KINDS = {
    "worker": "worker",
    "temporal": "Temporal",
    "postgres": "PostgreSQL",
    "sandbox": "stand-ins",
    "webhooks": "webhook app",
    "peer": "peer",
}


def kind_of(child: str) -> str:
    """`worker-2` is a worker, `sandbox-stripe` one of the stand-ins: what is added up in one column."""
    return _KINDS.get(child.partition("-")[0], child)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, of the children it has reaped and of those that live. 0 for one that is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    seconds = 0.0
    for one in family:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def rss_mib(pid: int) -> float:
    """Resident memory of one process."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


class CpuMeter:
    """CPU seconds since it was made, by kind of process. Processes that ended meanwhile take theirs along."""

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._machine_before = _busy_seconds()
        self._before = self._now()

    def used(self) -> Mapping[str, float]:
        """Seconds by kind."""
        spent: defaultdict[str, float] = defaultdict(float)
        for (name, pid), seconds in self._now().items():
            spent[kind_of(name)] += max(0.0, seconds - self._before.get((name, pid), 0.0))
        return spent

    def strangers(self) -> float:
        """CPU seconds of everything else on the machine meanwhile: a figure taken beside much of it says little."""
        return max(0.0, _busy_seconds() - self._machine_before - sum(self.used().values()))

    def _now(self) -> dict[tuple[str, int], float]:
        found = {(DRIVER, os.getpid()): sum(os.times()[:2])}
        for name in self._tree.names:
            process = self._tree.process(name)
            if process is not None:
                found[name, process.pid] = cpu_seconds(process.pid)
        return found


def _busy_seconds() -> float:
    """CPU seconds of the whole machine since it started, what its host took from it (steal) included."""
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, kind, 0.0) for kind in kinds))


def shares(spent: Mapping[str, float], wall_seconds: float) -> str:
    """`Temporal 0.62, worker 0.58 … of 2 cores`: how many cores each kept busy, the busiest first."""
    busy = sorted(spent.items(), key=lambda one: -one[1])
    told = ", ".join(f"{kind} {seconds / wall_seconds:.2f}" for kind, seconds in busy if seconds / wall_seconds >= 0.02)
    total = sum(spent.values()) / wall_seconds
    return f"{told}: together {total:.2f} of {os.cpu_count()} cores"
