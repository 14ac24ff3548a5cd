"""A reward that a server scores: `--reward http://host:port/NAME`, with `dgpo serve --reward NAME` running there."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from rewards.card import Card
from rewards.catalogue import BUNDLES
from rewards.errors import ScoringError, SetupError, UsageError, suggestion
from rewards.escape import escape_controls
from rewards.prompt import Prompt
from rewards.remote.address import Address, split_address
from rewards.remote.connection import CLIENT_TOKEN, Connection, OutOfReach
from rewards.remote.description import Description, Served, read_served
from rewards.remote.wire import cut, encode, json_bytes, read_scores, write_prompt
from rewards.reward import Reward
from rewards.score import Score

if TYPE_CHECKING:
    from PIL.Image import Image

    from rewards.spec import RewardSpec

FIRST_CALL_S = 3.0
REQUEST_IMAGES = 32
CHECKED_AT_ONCE = 500
_ENCODERS = 4
_served: dict[str, Served] = {}


def find_served(address: Address) -> list[tuple[Description, str]]:
    """The rewards that an address means, with the full address of each: one, or the members of a bundle.

    Raises:
        SetupError: the server does not answer.
        UsageError: it serves no such reward, or several that could be meant.
    """
    rewards = describe_server(address.base, FIRST_CALL_S).rewards
    members = [one for one in rewards if one.card.name in BUNDLES.get(address.wanted, ())]
    found = members or [_find(address, rewards)]
    return [(one, str(replace(address, name=one.card.name, wanted=one.key, identity=one.identity))) for one in found]


def served_card(source: str) -> Card:
    """The card of a spec with this source."""
    address, _ = split_address(source)
    return _find(address, describe_server(address.base).rewards).card


def describe_server(base: str, patience_s: float | None = None) -> Served:
    """What a server serves; asked once per process, as what changes later shows in every answer.

    Raises:
        SetupError: it cannot be reached within `patience_s` (otherwise the deadline), or is no reward server.
    """
    if base not in _served:
        try:
            response = connect(base).ask("GET", "/v1/rewards", patience_s)
        except OutOfReach as error:
            raise SetupError(
                f"No reward server answers at {base}: {error}. Start one there: dgpo serve --reward NAME --port PORT"
            ) from None
        _refuse_status(base, response)
        try:
            _served[base] = read_served(response.json())
        except ValueError as error:
            raise SetupError(f"What answers at {base} is no reward server of dgpo ({str(error)[:200]}).") from None
    return _served[base]


@cache
def connect(base: str) -> Connection:
    """One connection a server and process, shared by its rewards."""
    return Connection(base)


def forget_servers() -> None:
    """Ask servers anew what they serve."""
    _served.clear()
    connect.cache_clear()


class ServedReward(Reward):
    """Scores by asking a server; the same scores as that reward would give here.

    A server that is away is waited for until the deadline (see `connection`); after it the images have failed scores.
    One that comes back with other weights or versions raises SetupError, since its scores are not to be mixed with
    those before. There is nothing to verify: the server has tried its rewards when it started.
    """

    remote = True

    def __init__(self, spec: "RewardSpec", card: Card) -> None:
        if spec.source is None:
            raise AssertionError("a served reward has its address as source")
        super().__init__(spec, card)
        self.address, _ = split_address(spec.source)
        served = describe_server(self.address.base)
        self.limits = served.limits
        self.description = _find(self.address, served.rewards)
        self.connection = connect(self.address.base)
        self._problems: dict[str, str | None] = {}
        if self.description.identity != self.address.identity:
            raise self._changed(self.description.provenance, self.description.server_version)

    def check(self, prompt: Prompt) -> None:
        """Raise UsageError, naming the prompt, when this reward cannot judge any image of it."""
        self.prepare_checks([prompt])
        problem = self._problems[prompt.id]
        if problem is not None:
            raise UsageError(problem)

    def prepare_checks(self, prompts: Sequence[Prompt]) -> None:
        """Have many prompts checked in few requests, so that `check` knows the answers."""
        new = list({prompt.id: prompt for prompt in prompts if prompt.id not in self._problems}.values())
        costs = [(1, json_bytes(prompt)) for prompt in new]
        for part in cut(costs, (CHECKED_AT_ONCE, self._text_bytes)):
            self._check_some(new[part])

    def score(self, images: "Sequence[Image]", prompts: Sequence[Prompt]) -> list[Score]:
        """One score per image, in order.

        Raises:
            ScoringError: the server refuses these images.
            SetupError: the server refuses the token, has lost the reward, or is another one than before.
        """
        with ThreadPoolExecutor(_ENCODERS) as encoders:
            parts = list(encoders.map(encode, images))
        costs = [
            (1, len(part), image.width * image.height, json_bytes(prompt))
            for part, image, prompt in zip(parts, images, prompts, strict=True)
        ]
        most = (
            min(REQUEST_IMAGES, self.limits["images"]),
            self.limits["request_bytes"] - self.limits["json_bytes"],
            self.limits["request_pixels"],
            self._text_bytes,
        )
        scores: list[Score] = []
        for part in cut(costs, most):
            scores += self._score_some(parts[part], prompts[part])
        return scores

    def provenance(self) -> dict[str, str]:
        """What the server records of its reward, and the server's version; the address is the spec's source."""
        return {**self.description.provenance, "server": self.description.server_version}

    @property
    def _text_bytes(self) -> int:
        return self.limits["json_bytes"] - 1000  # for what surrounds the prompts

    def _score_some(self, parts: Sequence[bytes], prompts: Sequence[Prompt]) -> list[Score]:
        files: list[Any] = [("request", (None, json.dumps(self._fields(prompts)), "application/json"))]
        files += [("image", (f"{number}.png", part, "image/png")) for number, part in enumerate(parts)]
        try:
            response = self.connection.ask("POST", "/v1/score", files=files)
        except OutOfReach as error:  # not raised: the batch would be tried again image by image, and has waited enough
            return [Score.failed(f"no answer from {self.address.base}: {error}")] * len(parts)
        document = self._read(response)
        try:
            return read_scores(document, parts, prompts)
        except ValueError as error:
            return [Score.failed(f"unusable answer from {self.address.base}: {error}")] * len(parts)

    def _check_some(self, prompts: Sequence[Prompt]) -> None:
        try:
            response = self.connection.ask("POST", "/v1/check", json=self._fields(prompts))
            problems = self._read(response).get("problems")
        except (OutOfReach, ScoringError) as error:
            raise SetupError(f"The prompts could not be checked by {self.address.base}: {error}") from None
        if not isinstance(problems, list) or len(problems) != len(prompts):
            raise SetupError(f"The prompts could not be checked by {self.address.base}: its answer is unusable.")
        self._problems.update(zip((prompt.id for prompt in prompts), problems, strict=True))

    def _fields(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        return {"reward": self.description.key, "prompts": [write_prompt(prompt) for prompt in prompts]}

    def _read(self, response: Any) -> dict[str, Any]:
        """The JSON of a good answer, from the server that it was before."""
        _refuse_status(self.address.base, response)
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict) or "identity" not in document:
            raise ScoringError(f"{self.address.base} answers something that no reward server does")
        if document["identity"] != self.address.identity:
            raise self._changed(document.get("provenance"), document.get("server_version"))
        return document

    def _changed(self, provenance: Any, version: Any) -> SetupError:
        now = json.dumps({"server": version, **(provenance or {})}, sort_keys=True)
        before = json.dumps(self.provenance(), sort_keys=True)
        was = f" Before: {before}." if before != now else ""
        return SetupError(
            f"{self.address.base} now serves {self.description.key} with other weights or versions than when this "
            f"began, and the scores are not to be mixed. Now: {now}.{was} Start it as it was, or begin anew."
        )


def _find(address: Address, rewards: Sequence[Description]) -> Description:
    """The served reward that an address names by key, NAME@VERSION or NAME."""
    if len(exact := [one for one in rewards if one.key == address.wanted]) == 1:
        return exact[0]
    keys = [one.key for one in rewards]
    same = [one for one in rewards if one.card.name == address.name]
    plain = "[" not in address.wanted
    fitting = [one for one in same if plain and address.wanted in (one.card.name, one.card.key)]
    if len(fitting) == 1:
        return fitting[0]
    if same:
        raise UsageError(
            f"{address.base} serves {', '.join(one.key for one in same)}; ask for one of these by that key."
        )
    raise UsageError(f'{address.base} does not serve "{address.wanted}".{suggestion(address.wanted, keys)}')


def _refuse_status(base: str, response: Any) -> None:
    """Nothing for a good answer; SetupError for one that no further image changes, else ScoringError."""
    if response.status_code == 200:
        return
    try:
        said = escape_controls(str(response.json()["error"])[:1000])
    except (ValueError, KeyError, TypeError):
        said = response.text[:200]
    if response.status_code in (401, 403):
        raise SetupError(f"{base} refuses the token; put that of the server into {CLIENT_TOKEN}. It says: {said}")
    if response.status_code in (404, 405, 409) or 300 <= response.status_code < 400:
        raise SetupError(f"{base} answers HTTP {response.status_code}: {said}")
    raise ScoringError(f"{base} answers HTTP {response.status_code}: {said}")
