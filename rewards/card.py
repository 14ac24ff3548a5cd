"""Card: what a person must know of a reward before reading its numbers, without loading it."""

from collections.abc import Iterable
from dataclasses import dataclass

from rewards.errors import UsageError, suggestion


@dataclass(frozen=True)
class Option:
    """One thing that can be chosen about a reward; values are text, as on the command line."""

    name: str
    default: str
    choices: tuple[str, ...] | None
    help: str


@dataclass(frozen=True)
class WeightFile:
    """One file that a reward reads, and where it is published.

    `path` is its place in a --weights folder; `aliases` are other places that are looked at, and one with a * is the
    only file there of such a name. It comes from the file `source` of the hub repository `repo` at the commit
    `revision`, or from `url`; with neither it is only ever given by hand. `size` (bytes) and `sha256` (or its
    beginning, where no more is known) are those of the published file, None where nobody has stated them. A file that
    is not `required` is used where it is there.
    """

    path: str
    repo: str = ""
    revision: str = ""
    source: str = ""
    url: str = ""
    size: int | None = None
    sha256: str | None = None
    required: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Where it is published, for people: repository@commit, an address, or nothing."""
        return f"{self.repo}@{self.revision[:8]}" if self.repo else self.url


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts of one version of a reward; a plug-in's author gives those without a default.

    `bounds` are the lowest and highest possible value (None: open). `higher_is_better` None marks a descriptive score,
    which is reported and never called quality. Training multiplies the raw value by `train_scale`; files never do.
    `weights` says in words where the weights come from and how a --weights folder is laid out; `files` are those that
    `dgpo rewards fetch` gets, `disk_size` about how many bytes that is in all, where they do not tell. `reads_prompt`
    is False where the score is the image's alone. `entry` is "module:Class"; the class is called with the RewardSpec
    and this card. `repeatability` is by how much, relative to max(1, |value|), a second score of the same image may
    differ from the first, in another batch or on another day; judges that write text need more than the default.
    """

    name: str
    version: int
    unit: str
    bounds: tuple[float | None, float | None]
    higher_is_better: bool | None
    train_scale: float = 1.0
    licence: str = "not stated"
    extra: str | None = None
    summary: str
    options: tuple[Option, ...] = ()
    weights: str = "none"
    entry: str = ""
    files: tuple[WeightFile, ...] = ()
    disk_size: int | None = None
    reads_prompt: bool = True
    repeatability: float = 1e-4

    @property
    def key(self) -> str:
        return f"{self.name}@{self.version}"

    def settle_options(self, given: Iterable[tuple[str, str]]) -> dict[str, str]:
        """All options with their values, defaults filled in.

        Raises:
            UsageError: an option this reward does not have, or a value it does not take.
        """
        known = {option.name: option for option in self.options}
        values = {option.name: option.default for option in self.options}
        for name, value in given:
            if name not in known:
                hint = suggestion(name, known) if known else " It has none."
                raise UsageError(f'The reward {self.name} has no option "{name}".{hint}')
            choices = known[name].choices
            if choices is not None and value not in choices:
                raise UsageError(
                    f'The option {name} of the reward {self.name} cannot be "{value}".{suggestion(value, choices)}'
                )
            values[name] = value
        return values
