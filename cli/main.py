"""The program `dgpo`: `main` is its entry point.

`dgpo --help` must answer at once, so nothing on the way here imports torch, pandas or an engine: the files of the
commands import what they need inside the functions.
"""

import io
import os
import sys


def main() -> None:
    _leave_current_folder()
    from cli.shadowing import refuse_intruders

    refuse_intruders()
    _print_any_text()
    from cli.commands import app
    from rewards.exits import INTERRUPTED

    try:
        app(prog_name="dgpo")
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # all is put away by now, and torch would take seconds over leaving


def _leave_current_folder() -> None:
    """Start over as `python -P`, unless this is it: no Python started from here may import from the current folder.

    `python -m` puts that folder first on the path, and so does every worker process of multiprocessing while it starts,
    whatever its parent's path is: a `queue.py` or `typer.py` there would run. The option is handed down to all of them.
    Who stands in the program's own folder gets what it holds.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not sys.flags.safe_path and not os.path.samefile(os.curdir, home):
        os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])


def _print_any_text() -> None:
    """What is printed is UTF-8 whatever the locale, and a file name that is none comes out as the bytes it has."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


if __name__ == "__main__":
    main()
