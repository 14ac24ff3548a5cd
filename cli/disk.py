"""What the operating system refuses is a sentence that names the file and what to do; and who reads our answer may go.

Files that cannot be written or read are nobody's bug. Which refusals these are is told by the error's number: others
are shown as bugs.
"""

import errno
import os
import select
import sys

from rewards.errors import SetupError

_REASONS = {
    errno.ENOSPC: "there is no space left on its disk. Free some, or choose another place",
    errno.EDQUOT: "your quota on its disk is used up. Free some, or choose another place",
    errno.EFBIG: "it would be larger than a file may be here (see ulimit -f). Choose another place",
    errno.EROFS: "its disk can only be read. Choose another place",
    errno.EACCES: "permission is denied. Choose another place, or change its permissions",
    errno.EPERM: "that is not permitted. Choose another place, or change its permissions",
    errno.ENAMETOOLONG: "its name is too long. Choose a shorter one",
    errno.ENOTDIR: "a part of its path is a file and not a folder. Choose another place",
    errno.EISDIR: "it is a folder. Name a file",
    errno.EEXIST: "there is something else of that name already. Choose another place",
    errno.EINVAL: "it is no regular file, or none that can be used like this. Choose another place",
    errno.ELOOP: "its symbolic links lead in a circle. Choose another place",
    errno.EPIPE: "whoever reads from it has gone",
    errno.EIO: "its disk reports an error of its own. Look after the disk, or choose another place",
    errno.ESTALE: "the network disk it is on has lost it. Try again",
    errno.EMFILE: "this process has too many files open (see ulimit -n)",
    errno.ENFILE: "this machine has too many files open",
}


def check_here() -> None:
    """SetupError if the folder that the command was started in is gone, by which every relative path is read."""
    try:
        os.getcwd()
    except OSError as error:
        raise SetupError(
            f"The folder this command was started in cannot be found any more ({error.strerror}): it was deleted or"
            " moved. Go to another one, or to this one again (cd), and give the command again."
        ) from None


def explain(error: OSError) -> str | None:
    """The sentence about a file that could not be written or read; None for an error that is not of that kind."""
    reason = _REASONS.get(error.errno or 0)
    if reason is None or (error.errno == errno.EPIPE and error.filename is None):  # that may be a pipe of our own
        return None
    name = (
        os.fsdecode(error.filename)
        if isinstance(error.filename, str | bytes | os.PathLike)
        else "a file, or the standard output"
    )
    return f"{name}: {reason}."


def reader_is_gone() -> bool:
    """Whether nobody reads the standard output, or the standard error, any more, as behind `| head`."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def give_up_answer() -> None:
    """Let what cannot be printed go nowhere, since Python would fail on it once more when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
