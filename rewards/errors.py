"""Errors that are a person's or the environment's, with the exit code they end in; everything else is a bug."""

import difflib
import importlib
import warnings
from collections.abc import Iterable, Sequence
from types import ModuleType

from rewards.exits import ENVIRONMENT, WRONG_USE


class DgpoError(Exception):
    """Something a person can mend; its message is printed without a traceback."""

    exit_code = WRONG_USE


class UsageError(DgpoError):
    """Wrong use: an unknown name, an impossible option, a file that does not hold what it should."""

    exit_code = WRONG_USE


class SetupError(DgpoError):
    """The environment lacks something: an extra, weights, an engine that starts; or too much failed to go on."""

    exit_code = ENVIRONMENT


class WeightsMissing(SetupError):
    """A reward's published files are not on this machine; `dgpo rewards fetch` gets them.

    `files` are their names in the reward's layout, `size` in words what there is to fetch, as far as it is known.
    """

    def __init__(self, message: str, files: Sequence[str] = (), size: str = "") -> None:
        super().__init__(message)
        self.files, self.size = tuple(files), size

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...], str]]:
        return type(self), (str(self), self.files, self.size)


class ScoringError(DgpoError):
    """One image could not be judged; the pool turns it into a failed score, so it never ends a run by itself."""

    exit_code = 5


def suggestion(word: str, choices: Iterable[str]) -> str:
    """End of an error sentence that helps with a misspelt `word`.

    >>> suggestion("orc", ["ocr", "imagestats"])
    ' Did you mean "ocr"?'
    >>> suggestion("?", ["ocr", "imagestats"])
    ' Choose from: imagestats, ocr.'
    """
    names = sorted(choices)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f' Did you mean "{close[0]}"?'
    return f" Choose from: {', '.join(names)}." if names else ""


def load_extra(module: str, extra: str) -> ModuleType:
    """Import an optional library, or say which command installs it.

    Raises:
        SetupError: it is not installed, or it is and one of its own libraries does not load.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # libraries that another library deprecates are its affair
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise SetupError(f"This needs {missing}, which is not installed: pip install 'dgpo[{extra}]'") from error
    except ImportError as error:
        advice = f"pip install --force-reinstall 'dgpo[{extra}]'"
        if "libGL" in str(error):
            advice = "pip uninstall -y opencv-python; pip install --force-reinstall opencv-python-headless"
        raise SetupError(f"{module} is installed but does not load ({error}). Try: {advice}") from error
