"""What a person sees while the benchmark runs: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 10.0


class Shown:
    """One part after the other: `part`, then `say` and `step` in any order. Seconds are those since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = self._last_line = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)
        self._part = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def part(self, name: str) -> None:
        self._part = name
        self._bar.reset(self._task, description=name, total=None)
        self.say("begins")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._last_line = time.monotonic()
        self._console.print(f"{self._last_line - self._begun:5.0f} s  {self._part}: {text}", markup=False)

    def step(self, what: str, done: int, total: int) -> None:
        """Moves the bar; without a terminal, says so every ten seconds."""
        self._bar.update(self._task, description=f"{self._part}: {what}", completed=done, total=total)
        if not self._console.is_terminal and time.monotonic() - self._last_line > _LINE_SECONDS:
            self.say(f"{what}: {done} of {total}")
