"""Download one published file into the cache, going on where an earlier attempt stopped, and keep it only if whole.

huggingface_hub's own download throws an unfinished file away when its process ends (2.4 gives each a new name), so of
that library only the requests are used, and the hub's cache is filled here in its own layout: the content in
blobs/<hash>, a link to it in snapshots/<commit>/. Unfinished content lies beside it as <hash>.incomplete.
"""

import errno
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rewards.card import WeightFile
from rewards.errors import SetupError
from rewards.files import move
from rewards.weights.folder import cache_place, compare, hub_folder, is_hash

Report = Callable[[int], None]

OTHER_MACHINE = (
    "Without network: run `dgpo rewards fetch NAME --output DIR` on another machine, bring DIR here, and give "
    "--weights NAME=DIR/NAME."
)


class NotPublished(SetupError):
    """The server answers, but has no such file."""


@dataclass(frozen=True)
class Remote:
    """A file as its server offers it; size None and digest "" where it does not say.

    `place` is where it will be found, `content` where its bytes lie, which in the hub's cache is another file; `lock`
    keeps two processes (of the hub's library, too) from writing it at once.
    """

    file: WeightFile
    url: str
    size: int | None
    digest: str
    place: Path
    content: Path
    lock: Path

    @property
    def partial(self) -> Path:
        return self.content.with_name(f"{self.content.name}.incomplete")

    @property
    def done(self) -> int:
        """Bytes that an earlier attempt has left, which this one goes on from."""
        size = self.partial.stat().st_size if self.partial.is_file() else 0
        return size if self.size is not None and size <= self.size else 0


def look_up(file: WeightFile, advice: str = OTHER_MACHINE) -> Remote:
    """Ask the server for a file's size and hash, without its content.

    Args:
        advice: what is said to whoever has no connection.

    Raises:
        NotPublished: there is no such file.
        SetupError: the server cannot be reached or refuses, or offers another file than the card names.
    """
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.file_download import get_hf_file_metadata

    url = _address(file)
    place = cache_place(file)
    if place is None:
        raise SetupError(f"{file.path} is not published anywhere; it can only be given in a --weights folder.")
    try:
        # Only the hub may see the hub's token.
        answer = get_hf_file_metadata(url, token=None if file.repo else False)
    except (HTTPError, OSError) as error:
        raise _explain(error, url, advice=advice) from error
    size = answer.size if answer.size is not None else file.size
    if not file.repo:
        return Remote(file, url, size, "", place, place, place.with_name(f"{place.name}.lock"))
    if not answer.etag:
        raise SetupError(f"{url} does not answer as a model hub does (no ETag); is HF_ENDPOINT right?")
    offered = answer.etag if is_hash(answer.etag) else ""
    _refuse_other(file, url, answer.size, offered)
    folder = hub_folder(file)
    lock = folder.parent / ".locks" / folder.name / f"{answer.etag}.lock"
    return Remote(file, url, size, offered, place, folder / "blobs" / answer.etag, lock)


def download(remote: Remote, report: Report) -> None:
    """Get the content, from where an earlier attempt stopped; verify it, then put it in its place.

    Args:
        report: called with the number of bytes that are there, as they come.

    Raises:
        SetupError: the transfer broke (the same call goes on from there), or the content is not what was published
            (it is deleted).
    """
    from huggingface_hub.utils import WeakFileLock

    _make_folders(remote)
    with WeakFileLock(remote.lock):
        if not _is_whole(remote):
            _transfer(remote, report)
            _verify(remote)
            move(remote.partial, remote.content)
        if remote.content != remote.place:
            _link(remote.content, remote.place)


def _make_folders(remote: Remote) -> None:
    for folder in (remote.content.parent, remote.place.parent, remote.lock.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f"{folder} cannot be made ({error.strerror}); choose another cache: export HF_HUB_CACHE=DIR"
            ) from error
        if not os.access(folder, os.W_OK):
            raise SetupError(f"{folder} cannot be written to; choose another cache: export HF_HUB_CACHE=DIR")


def _is_whole(remote: Remote) -> bool:
    """Another process, or another program by way of the hub's cache, may have got it meanwhile."""
    return remote.content.is_file() and bool(compare(remote.content, remote.file, remote.digest).same)


def _verify(remote: Remote) -> None:
    comparison = compare(remote.partial, remote.file, remote.digest)
    if comparison.same is False:
        remote.partial.unlink()
        raise SetupError(
            f"{remote.file.path} from {remote.url} is not the published file: {comparison.words}. It was deleted; "
            "other files that were fetched are kept."
        )


class _Watched(io.BufferedWriter):
    """A file that grows, and tells how far it is."""

    def __init__(self, path: Path, report: Report) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self.report = report

    def write(self, buffer) -> int:
        written = super().write(buffer)
        self.report(self.tell())
        return written


def _transfer(remote: Remote, report: Report) -> None:
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    if not remote.done:
        remote.partial.unlink(missing_ok=True)
    disable_progress_bars("huggingface_hub.http_get")
    headers = build_hf_headers(token=None if remote.file.repo else False)
    headers["accept-encoding"] = "identity"
    try:
        with _Watched(remote.partial, report) as content:
            http_get(
                remote.url, content, resume_size=remote.done, headers=headers, expected_size=remote.size
            )  # tries again by itself a few times, with what has come so far
    except (HTTPError, OSError) as error:
        raise _explain(error, remote.url, remote) from error


def _address(file: WeightFile) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(file.repo, file.source, revision=file.revision) if file.repo else file.url


def _refuse_other(file: WeightFile, url: str, size: int | None, digest: str) -> None:
    """Before gigabytes are moved."""
    if file.size is not None and size is not None and size != file.size:
        raise SetupError(f"{url} offers another file than the published one: {size} bytes instead of {file.size}.")
    if file.sha256 and len(digest) == len(file.sha256) and digest != file.sha256:
        raise SetupError(f"{url} offers another file than the published one: sha256 {digest} instead of {file.sha256}.")


def _link(content: Path, place: Path) -> None:
    """A relative link, as the hub's cache has it; where there are no links, the content itself."""
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(os.path.relpath(content, place.parent))
    except OSError:
        shutil.move(content, place)


def _explain(error: Exception, url: str, remote: Remote | None = None, advice: str = "") -> SetupError:
    """What went wrong between us and a server, as a sentence with the address and what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return SetupError(f"{url} was not asked for, as HF_HUB_OFFLINE is set; unset it to fetch.")
    if isinstance(error, GatedRepoError):
        return SetupError(f"{url} asks for its terms to be accepted: do so on its page, then `hf auth login`.")
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error.response.status_code, url)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return SetupError(f"The disk is full while fetching {url}. Make room; the same command then goes on from here.")
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if remote is not None:
        came = f"after {remote.done} of {remote.size} bytes"
        return SetupError(f"{url} broke off {came} ({text}). The same command goes on from there.")
    return SetupError(f"{url} cannot be reached ({text}). {advice}".rstrip())


def _explain_status(status: int, url: str) -> SetupError:
    if status == 404:
        return NotPublished(f"{url} is not there (the server answers 404).")
    if status in (401, 403):
        return SetupError(
            f"{url} is refused (the server answers {status}): it is private, gated or gone, or the token is wrong; "
            "`hf auth login` gives one."
        )
    return SetupError(f"{url} is not given (the server answers {status}). The same command goes on later.")
