"""What a user sees: lines in a log, a bar on a terminal."""

import io

from rich.console import Console

from seedfold.progress import Reporter


def written(terminal: bool, quiet: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100)
    with Reporter(console, quiet=quiet) as reporter:
        reporter.prefix = "[1/2] a: "
        for i in range(3):
            reporter.stage("trunk", i, 3)
        reporter.stage("diffusion", 1, 200)
        reporter.warn("[careful]")
        reporter.info("done")
    return file.getvalue()


def test_a_log_has_one_line_a_stage():
    assert written(False).splitlines() == [
        "[1/2] a: trunk (3)",
        "[1/2] a: diffusion (200)",
        "warning: [careful]",
        "done",
    ]


def test_a_terminal_has_a_bar_with_the_stage():
    assert "diffusion" in written(True) and "1/200" in written(True)


def test_quiet_keeps_warnings():
    assert written(False, quiet=True).splitlines() == ["warning: [careful]"]
