"""Card: what a person must know of a reward before reading its numbers, without loading it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rewards.errors import UsageError, suggestion


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


@dataclass(frozen=True)
class Example:
    """One published score: of this picture, for this prompt, with these options of the reward.

    It proves that the weights are the right ones and that we read images, prompts and weights as the originals do. The
    picture is known by its SHA-256, of which the beginning will do where no more was written down; `source` says in
    words who published the score.
    """

    url: str
    sha256: str
    score: float
    tolerance: float
    source: str
    prompt: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def picture(self) -> str:
        return self.url.rpartition("/")[2]


Bounds = tuple[float | None, float | None]
OTHER = "*"


@dataclass(frozen=True)
class Change:
    """What a value of an option changes of the card; None leaves it as it is."""

    unit: str | None = None
    bounds: Bounds | None = None
    files: tuple[WeightFile, ...] | None = None


@dataclass(frozen=True)
class Option:
    """One thing that can be chosen about a reward; values are text, as on the command line.

    `changes` tells what other values than the default change of the card, so that every reader of the reward's numbers
    (alarms, tables, the trainer) knows it without loading the reward; `OTHER` stands for all of them.
    """

    name: str
    default: str
    choices: tuple[str, ...] | None
    help: str
    changes: tuple[tuple[str, Change], ...] = ()


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
    `alone` says that an image's score is the same to the last bit whatever stands beside it in a batch, so that workers
    may share one.
    `examples` are published scores, which `dgpo rewards check` compares with; where there are none, `unpublished` says
    why, or nothing where a number is its own definition.
    """

    name: str
    version: int
    unit: str
    bounds: Bounds
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
    alone: bool = False
    examples: tuple[Example, ...] = ()
    unpublished: str = "no published score is known here"

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

    def settled(self, given: Iterable[tuple[str, str]]) -> "Card":
        """The card of the variant with these options; raises what `settle_options` does."""
        values, card = self.settle_options(given), self
        for option in self.options:
            chosen = values[option.name]
            for value, change in option.changes:
                if chosen != option.default and value in (chosen, OTHER):
                    given_ones = {name: one for name, one in vars(change).items() if one is not None}
                    card = replace(card, **given_ones)
        return card
