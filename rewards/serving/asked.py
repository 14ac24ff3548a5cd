"""What a request asks for, read from its JSON strictly."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rewards.errors import UsageError
from rewards.prompt import Prompt
from rewards.serving.limits import Limits, Refusal


class Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PromptFields(Fields):
    text: str
    spec: dict[str, Any] = Field(default_factory=dict)


class Asked(Fields):
    """The JSON of /v1/score and /v1/check: a reward by its key (or name, where only one has it), and prompts."""

    reward: str
    prompts: list[PromptFields]


def read_asked(text: bytes | bytearray, limits: Limits) -> tuple[str, list[Prompt]]:
    """The reward's name and the prompts.

    Raises:
        Refusal: 400 not JSON, 413 a prompt that is too long, 422 JSON of another form.
    """
    try:
        document = json.loads(bytes(text), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"The request is not JSON: {str(error)[:200]}.") from None
    try:
        asked = Asked.model_validate(document)
    except ValidationError as errors:
        raise Refusal(422, f"The request has another form than it should: {_tell(errors)}.") from None
    return asked.reward, [_to_prompt(number, fields, limits) for number, fields in enumerate(asked.prompts)]


def match_images(prompts: Sequence[Prompt], images: Sequence[bytes | bytearray]) -> None:
    """Refusal 422 unless there is one prompt an image, and at least one."""
    if not images or len(prompts) != len(images):
        raise Refusal(422, f"There are {len(prompts)} prompts and {len(images)} images; send one prompt an image.")


def _to_prompt(number: int, fields: PromptFields, limits: Limits) -> Prompt:
    if len(fields.text) > limits.prompt_characters:
        raise Refusal(
            413, f"Prompt {number} has {len(fields.text)} characters; at most {limits.prompt_characters} are taken."
        )
    try:
        prompt = Prompt(fields.text, fields.spec)
        _ = prompt.id  # whatever cannot be written as JSON in UTF-8 shows here
    except (UsageError, ValueError, RecursionError) as error:
        raise Refusal(422, f"Prompt {number} cannot be used: {str(error)[:200]}") from None
    return prompt


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _tell(errors: ValidationError) -> str:
    first = errors.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{place[:100]}: {first['msg']}"
