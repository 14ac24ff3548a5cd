"""`dgpo serve`: rewards behind HTTP, for trainings and evaluations on other machines."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import JudgeTexts, RewardSeconds, RewardSets, WeightFolders, check_deadline
from cli.screen import say
from rewards.errors import UsageError
from rewards.reward import DEADLINE_S

if TYPE_CHECKING:
    from rewards.spec import RewardSpec


def serve(
    reward: JudgeTexts = None,
    reward_set: RewardSets = None,
    weights: WeightFolders = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than this machine's own loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="The token clients must show; otherwise DGPO_SERVE_TOKEN."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option("--max-batch", min=1, help="Images of several requests that are scored together.")
    ] = 32,
    max_wait: Annotated[
        float,
        typer.Option("--max-wait", metavar="MS", min=0, help="How long a request waits for others, in milliseconds."),
    ] = 5.0,
    workers: Annotated[
        int, typer.Option(min=0, help="Scoring processes a reward; 0 scores in this one, as a single GPU likes it.")
    ] = 0,
    reward_seconds: RewardSeconds = DEADLINE_S,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=VALUE", help="A limit on requests, as in images=64; repeatable."),
    ] = None,
) -> None:
    """Serve rewards over HTTP to `--reward http://host:port/NAME`, until Ctrl-C or SIGTERM."""
    from cli.threads import scoring_threads
    from rewards.parse import parse_judges
    from rewards.serving.auth import open_to_others, read_token, refuse_open_door
    from rewards.serving.limits import change_limits

    check_deadline(reward_seconds, workers)
    limits = change_limits(limit or ())
    token = read_token(token_file)
    refuse_open_door(host, token)
    if remark := open_to_others(token_file):
        say(remark)
    specs = parse_judges(reward or (), reward_set or (), weights or ())
    if not specs:
        raise UsageError(
            "Say what to serve: --reward NAME, for instance --reward ocr. `dgpo rewards ls` lists the rewards."
        )
    scoring = {"workers": workers, "threads": scoring_threads(workers), "deadline_s": reward_seconds}
    _serve(specs, host, port, scoring, token=token, limits=limits, batch=max_batch, wait_s=max_wait / 1000)


def _serve(specs: list[RewardSpec], host: str, port: int, scoring: dict[str, Any], **rest: Any) -> None:
    from dgpo import __version__
    from rewards.serving.app import Service
    from rewards.serving.engine import Engine
    from rewards.serving.run import bind, make_server

    version = f"dgpo {__version__}"
    listener = bind(host, port)
    service = Service(Engine(specs, version=version, **scoring), version=version, **rest)
    server = make_server(service)
    _log_to_stderr()
    _tell(specs, host, listener.getsockname()[1], secret=rest["token"] is not None)
    server.run([listener])
    if service.broken is not None:
        raise service.broken
    say("stopped")


def _log_to_stderr() -> None:
    """A line per request, and the server's own warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("rewards", logging.INFO), ("uvicorn", logging.WARNING), ("python_multipart", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)


def _tell(specs: list[RewardSpec], host: str, port: int, *, secret: bool) -> None:
    place = f"[{host}]" if ":" in host else host
    say(f"serving on http://{place}:{port}; clients give")
    for spec in specs:
        print(f"--reward 'http://{place}:{port}/{spec.key}'", flush=True)
    if secret:
        say("with the token in DGPO_REWARD_TOKEN")
    if host in ("0.0.0.0", "::"):
        say("and the name of this machine in the place of that address")
