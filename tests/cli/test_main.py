"""The program as a person meets it: how fast it is there, and how it ends when something is wrong."""

import pytest

from cli.commands import INTERRUPTED

SHOW_MODULES = "import atexit; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))"
HEAVY = {
    "PIL", "accelerate", "diffusers", "matplotlib", "numpy", "onnxruntime", "pandas", "peft", "pydantic", "rapidfuzz",
    "rapidocr", "rich", "safetensors", "torch", "transformers", "yaml",
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "by_typer"),
    [
        (["--help"], set()),
        (["--version"], set()),
        # Typer reads the options of a command with pydantic.
        (["train", "--help"], {"pydantic"}),
        (["eval", "--help"], {"pydantic"}),
        (["score", "--help"], {"pydantic"}),
        (["rewards", "ls"], {"pydantic"}),
    ],
)
def test_help_imports_nothing_heavy(program, words, by_typer):
    done = program(*words, before=SHOW_MODULES)
    assert done.returncode == 0
    modules = set(done.stderr.split())
    assert "cli.commands" in modules
    assert modules & HEAVY <= by_typer


def test_help_names_every_command_and_exit_code(program):
    text = program("--help").stdout
    for name in ("train", "eval", "score", "compare", "sample", "rewards", "suites", "recipes", "doctor"):
        assert f"\n  {name} " in text
    assert "130" in text


@pytest.mark.parametrize("words", [[], ["train"], ["rewards"], ["rewards", "ls"]])
def test_h_is_short_for_help(program, words):
    assert program(*words, "-h").stdout == program(*words, "--help").stdout != ""


def test_version_is_the_package_version(program):
    from dgpo import __version__

    assert program("--version").stdout == f"dgpo {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["evla"], "'eval'"),
        (["rewards", "sohw"], "'show'"),
        (["eval", "--siute", "signs"], "--suite"),
        (["eval"], "--suite"),
        (["eval", "--suite", "signs", "--seeds", "0"], "--seeds"),
    ],
)
def test_wrong_use_of_the_command_line_ends_with_2_and_a_hint(program, words, hint):
    done = program(*words)
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_own_error_is_one_message_without_traceback(program):
    done = program("rewards", "show", "orc")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'dgpo: There is no reward "orc". Did you mean "ocr"?\n'


def test_bug_shows_its_traceback(program):
    done = program("rewards", "ls", before="import rewards.registry; rewards.registry.CARDS = 5")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "TypeError" in done.stderr


def test_keyboard_interrupt_ends_with_130(program):
    done = program(
        "recipes", "ls", before="import dgpo.config as c\ndef stop(): raise KeyboardInterrupt\nc.recipe_names = stop"
    )
    assert done.returncode == INTERRUPTED == 130
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr
