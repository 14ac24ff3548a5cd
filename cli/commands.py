"""The list of commands, and the one place where an error becomes a message and an exit code."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import algorithms, models, recipes, rewards, suites
from cli.compare import compare
from cli.disk import check_here, explain, give_up_answer, reader_is_gone
from cli.doctor import doctor
from cli.eval import evaluate
from cli.launch import let_the_cause_end_first, say_last
from cli.merge import merge
from cli.sample import sample
from cli.score import score
from cli.serve import serve
from cli.train import train
from dgpo import __version__
from dgpo.processes import PeerLost
from rewards.errors import DgpoError, SetupError
from rewards.exits import INTERRUPTED, READER_GONE

OUT_OF_MEMORY = "OutOfMemoryError"  # torch's, which is not imported here


class Commands(TyperGroup):
    """Runs a command. A person's mistake or a lacking environment is told in a message; a bug shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            check_here()
            answer = super().invoke(ctx)
            sys.stdout.flush()
            return answer
        except OSError as error:
            sentence = explain(error)
            if isinstance(error, BrokenPipeError) and reader_is_gone():
                give_up_answer()
                raise typer.Exit(READER_GONE) from None
            if sentence is None:
                raise
            say_last(sentence)
            give_up_answer()
            raise typer.Exit(SetupError.exit_code) from None
        except RuntimeError as error:
            if type(error).__name__ != OUT_OF_MEMORY:
                raise
            reason = str(error).partition(". ")[0]
            say_last(
                f"The device's memory is used up ({reason}); what is finished is kept. `dgpo train --dry-run` tells "
                "what takes how much, and which settings make it fit; --quantize and --offload draw with less."
            )
            raise typer.Exit(SetupError.exit_code) from None
        except DgpoError as error:
            say_last(str(error))
            if isinstance(error, PeerLost):
                let_the_cause_end_first()
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say_last("interrupted; give the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dgpo {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    help="Train diffusion models on groups of scored images, and measure what they learned.",
    epilog="Exit codes: 0 done; 1 a bug; 2 wrong use; 3 the environment lacks something; 4 a gate failed;"
    " 5 some images could not be scored; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def dgpo(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Options that belong to no command."""


app.command("train")(train)
app.command("eval")(evaluate)
app.command("score")(score)
app.command("merge")(merge)
app.command("compare")(compare)
app.command("sample")(sample)
app.command("serve")(serve)
app.add_typer(rewards.app, name="rewards")
app.add_typer(suites.app, name="suites")
app.add_typer(algorithms.app, name="algorithms")
app.add_typer(models.app, name="models")
app.add_typer(recipes.app, name="recipes")
app.command("doctor")(doctor)
