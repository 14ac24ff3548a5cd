"""A model on the hub: asked for once, and what goes wrong is said in words that help."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dgpo.models.folder import INDEX
from rewards.errors import SetupError

INSTEAD = "or give a local diffusers folder."


def fetch_file(name: str, file: str = INDEX) -> Path:
    """A small file of a hub model, in the local cache, where an earlier one will do: families do not change.

    Raises:
        SetupError: the hub is out of reach, refuses, or has no such model.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(name, file)
    if isinstance(cached, str):
        return Path(cached)
    with told_of_the_hub(name):
        get_hf_file_metadata(hf_hub_url(name, file))  # asks once; a download asks six times, for half a minute
        return Path(hf_hub_download(name, file))


@contextmanager
def told_of_the_hub(name: str) -> Iterator[None]:
    """What the hub, the network or the disk refuses while a hub model is fetched becomes a sentence."""
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    _check_token()
    try:
        yield
    except (OSError, HTTPError, EntryNotFoundError) as error:
        told = _explain(name, error)
        if told is None:
            raise
        raise SetupError(told) from error


def _explain(name: str, error: BaseException) -> str | None:
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
    )

    causes = list(_causes(error))

    def first(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if first(GatedRepoError):
        return _explain_gate(name)
    if constants.HF_HUB_OFFLINE or first(OfflineModeIsEnabled):
        return (
            f"The model {name} could not be loaded: it is not in the cache of this machine, and HF_HUB_OFFLINE is set. "
            f"Unset it to fetch the model, {INSTEAD}"
        )
    full = next((one for one in causes if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT)), None)
    if full:
        return (
            f"The disk is full while fetching the model {name} into {constants.HF_HUB_CACHE}. Make room, or name "
            "another place: export HF_HOME=DIR. The same command goes on."
        )
    if first(RepositoryNotFoundError):
        return (
            f"There is no model {name} on the hub, or it is private. Check the name; for a private one log in with "
            f"`hf auth login`; {INSTEAD}"
        )
    refused = first(HfHubHTTPError)
    status = refused.response.status_code if isinstance(refused, HfHubHTTPError) else None
    if status in (401, 403):
        return (
            f"The hub refuses this machine's token for the model {name} (it answers {status}): log in again with "
            "`hf auth login`, or unset HF_TOKEN for a public model."
        )
    if status == 404:
        return (
            f"{name} is on the hub, but is no diffusers model: it lacks {INDEX} or another file ({_first_line(error)})."
        )
    if status is not None:
        return f"The model {name} could not be loaded: the hub answers {status}. Try again later, {INSTEAD}"
    lost = first(HTTPError, ConnectionError, EntryNotFoundError)
    if lost is None:
        return None
    return (
        f"The model {name} could not be loaded from the hub ({_first_line(lost)}). Check the name and the connection, "
        f"{INSTEAD}"
    )


def _explain_gate(name: str) -> str:
    page = f"https://huggingface.co/{name}"
    if _has_token():
        return (
            f"The model {name} is gated, and this machine's token has no access to it: accept its licence at {page} "
            "with the account the token belongs to (`hf auth whoami` names it), and give the same command again."
        )
    return (
        f"The model {name} is gated: accept its licence at {page}, then log in on this machine with `hf auth login` "
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
