"""The program `dgpo`: `main` is its entry point, `app` the same as an object.

`dgpo --help` must answer at once, so nothing on the way here imports torch, pandas or an engine: the files of the
commands import what they need inside the functions.
"""

from cli.neighbours import refuse_intruders

refuse_intruders()

from cli.commands import app  # noqa: E402  (these imports are what was just checked)


def main() -> None:
    app(prog_name="dgpo")


if __name__ == "__main__":
    main()
