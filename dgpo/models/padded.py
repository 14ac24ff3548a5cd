"""Prompts of different lengths in one tensor. Shapes: N prompts, T tokens of the longest, D text width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from dgpo.models.model import Conditioning


@dataclass(frozen=True)
class PaddedConditioning(Conditioning):
    """Token states [N, T, D], zeros behind the last of each prompt, and how many each has.

    Lengths are plain numbers, so that nobody waits for a device to learn how long the longest is.
    """

    states_NTD: torch.Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, states_1TD: torch.Tensor) -> Self:
        """One prompt, whose tokens these are."""
        return cls(states_1TD, (states_1TD.shape[1],))

    def take(self, rows: torch.Tensor) -> Self:
        """These rows, in this order, as long as the longest of them."""
        lengths = tuple(self.lengths[row] for row in rows.tolist())
        return type(self)(self.states_NTD[rows][:, : max(lengths, default=0)], lengths)

    def first(self, rows: int) -> Self:
        return type(self)(self.states_NTD[:1].expand(rows, -1, -1), self.lengths[:1] * rows)

    def to(self, device: torch.device) -> Self:
        return type(self)(self.states_NTD.to(device), self.lengths)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        longest = max(part.states_NTD.shape[1] for part in parts)
        pad = torch.nn.functional.pad
        states = [pad(part.states_NTD, (0, 0, 0, longest - part.states_NTD.shape[1])) for part in parts]
        return cls(torch.cat(states), tuple(length for part in parts for length in part.lengths))

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"states_NTD": self.states_NTD}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        return cls.of(tensors["states_NTD"])

    @property
    def mask_NT(self) -> torch.Tensor | None:
        """Which tokens are of the prompt; None where all are."""
        longest = self.states_NTD.shape[1]
        if all(length == longest for length in self.lengths):
            return None
        device = self.states_NTD.device
        return torch.arange(longest, device=device) < torch.tensor(self.lengths, device=device)[:, None]

    def rows(self) -> list[torch.Tensor]:
        """The states of each prompt alone, [its tokens, D]."""
        return [states[:length] for states, length in zip(self.states_NTD, self.lengths, strict=True)]
