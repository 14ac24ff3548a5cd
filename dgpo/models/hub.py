"""A model or LoRA on the hub: asked for once, and what goes wrong is said in words that help.

It is named OWNER/NAME, or OWNER/NAME@REVISION with a branch, a tag or a commit.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dgpo.models.find import HubId
from dgpo.models.folder import INDEX
from rewards.errors import SetupError


@dataclass(frozen=True)
class Kind:
    """What is fetched, in the words of sentences about it: `instead` is what else could be given, `lacks` what is wrong
    with a repository that has not the file."""

    noun: str
    instead: str
    lacks: str


MODEL = Kind(
    "model",
    "or give a local diffusers folder.",
    f"is no diffusers model: it lacks {INDEX} or another file",
)


def fetch_file(name: str, file: str = INDEX, kind: Kind = MODEL) -> Path:
    """A file of what `name` names, in the local cache, where an earlier one will do: families do not change.

    Raises:
        SetupError: the hub is out of reach, refuses, or has nothing of that name.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    cached = find_cached(name, file)
    if cached is not None:
        return cached
    repository, revision = HubId.of(name)
    with told_of_the_hub(name, kind):
        # Asks once; a download asks six times, for half a minute.
        get_hf_file_metadata(hf_hub_url(repository, file, revision=revision))
        return Path(hf_hub_download(repository, file, revision=revision))


def find_cached(name: str, file: str = INDEX) -> Path | None:
    """A file that is in the cache of this machine already, of the named revision alone; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache

    repository, revision = HubId.of(name)
    found = try_to_load_from_cache(repository, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


@contextmanager
def told_of_the_hub(name: str, kind: Kind = MODEL) -> Iterator[None]:
    """What the hub, the network or the disk refuses while something of the hub is fetched becomes a sentence."""
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    _check_token()
    try:
        yield
    except (OSError, HTTPError, EntryNotFoundError) as error:
        told = _explain(name, kind, error)
        if told is None:
            raise
        raise SetupError(told) from error


def _explain(name: str, kind: Kind, error: BaseException) -> str | None:
    """By the cause that says most, since libraries wrap what the hub answered in words of their own.

    None for what is neither the hub's, the network's nor the disk's fault.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    (repository, revision), what = HubId.of(name), f"{kind.noun} {name}"
    causes = list(_causes(error))

    def first(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if first(GatedRepoError):
        return _explain_gate(what, repository)
    if constants.HF_HUB_OFFLINE or first(OfflineModeIsEnabled):
        return (
            f"The {what} could not be loaded: it is not in the cache of this machine, and HF_HUB_OFFLINE is set."
            f"{_no_run(name, kind)} Unset it to fetch the {kind.noun}, {kind.instead}"
        )
    full = next((one for one in causes if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT)), None)
    if full:
        return (
            f"The disk is full while fetching the {what} into {constants.HF_HUB_CACHE}. Make room, or name "
            "another place: export HF_HOME=DIR. The same command goes on."
        )
    if first(RepositoryNotFoundError):
        return (
            f"There is no {kind.noun} {repository} on the hub, or it is private.{_no_run(name, kind)} Check the name; "
            f"for a private one log in with `hf auth login`; {kind.instead}"
        )
    if first(RevisionNotFoundError):
        return (
            f"{repository} is on the hub, but has no revision {revision or 'main'}.{_no_run(name, kind)} Check the "
            f"branch, tag or commit behind the @, {kind.instead}"
        )
    refused = first(HfHubHTTPError)
    status = refused.response.status_code if isinstance(refused, HfHubHTTPError) else None
    if status in (401, 403):
        return (
            f"The hub refuses this machine's token for the {what} (it answers {status}): log in again with "
            f"`hf auth login`, or unset HF_TOKEN for a public {kind.noun}."
        )
    if status == 404:
        return f"{name} is on the hub, but {kind.lacks} ({_first_line(error)})."
    if status is not None:
        return f"The {what} could not be loaded: the hub answers {status}. Try again later, {kind.instead}"
    lost = first(HTTPError, ConnectionError, EntryNotFoundError)
    if lost is None:
        return None
    return (
        f"The {what} could not be loaded from the hub ({_first_line(lost)}). Check the name and the "
        f"connection, {kind.instead}"
    )


def _no_run(name: str, kind: Kind) -> str:
    """A number behind the @ may have been meant as the step of a run."""
    repository, revision = HubId.of(name)
    meant = kind is MODEL and revision is not None and revision.isdecimal()
    return f" There is no run folder {repository} here either." if meant else ""


def _explain_gate(what: str, repository: str) -> str:
    page = f"https://huggingface.co/{repository}"
    if _has_token():
        return (
            f"The {what} is gated, and this machine's token has no access to it: accept its licence at {page} "
            "with the account the token belongs to (`hf auth whoami` names it), and give the same command again."
        )
    return (
        f"The {what} is gated: accept its licence at {page}, then log in on this machine with `hf auth login` "
        "(or set HF_TOKEN), and give the same command again."
    )


def _check_token() -> None:
    """SetupError, which does not show it, for a token that no request can carry."""
    from huggingface_hub import get_token

    token = get_token() or ""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SetupError(
            "This machine's token for the hub (HF_TOKEN, or what `hf auth login` has kept) holds more than a token: a "
            "space, a line break or a letter outside ASCII within it. Put the token alone there, or log in again."
        )


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
