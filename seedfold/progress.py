"""What a run tells its user while it works: stage names, bars with the time left, warnings.

On a terminal one live bar shows the stage; elsewhere (a log file, a scheduler) each stage is one
line, so that logs stay readable.
"""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)


class Reporter:
    """Shows progress on `console`; use as a context manager."""

    def __init__(self, console: Console | None = None, quiet: bool = False):
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._live = self.console.is_terminal and not quiet
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("starting", total=1)
        self._stage = ""
        self.prefix = ""

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def stage(self, name: str, done: int, total: int) -> None:
        """Says that `done` of `total` steps of stage `name` are finished."""
        if name != self._stage:
            self._stage = name
            self._bar.reset(self._task, total=total, description=self.prefix + name)
            if not self._live and not self._quiet:
                self.console.print(f"{self.prefix}{name} ({total})")
        self._bar.update(self._task, completed=done, total=total)

    def info(self, message: str) -> None:
        """Prints a line."""
        if not self._quiet:
            self.console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Prints a warning, even when quiet."""
        self.console.print("warning: " + message, style="yellow", markup=False)

    def error(self, message: str) -> None:
        """Prints an error, even when quiet."""
        self.console.print("error: " + message, style="bold red", markup=False)
