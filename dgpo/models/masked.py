"""Prompts of different lengths in one tensor. Shapes: N prompts, T tokens of the longest, D text width."""

from dataclasses import dataclass

import torch

from dgpo.models.model import Conditioning


@dataclass(frozen=True)
class MaskedConditioning(Conditioning):
    """Token states [N, T, D], and which of them are of the prompt [N, T]; those of a prompt come first."""

    states_NTD: torch.Tensor
    mask_NT: torch.Tensor

    def trimmed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """States and mask as long as the longest prompt among these: what others need beside them takes no time."""
        longest = int(self.mask_NT.sum(dim=1).max()) if len(self.mask_NT) else self.mask_NT.shape[1]
        return self.states_NTD[:, :longest], self.mask_NT[:, :longest]

    def rows(self) -> list[torch.Tensor]:
        """The states of each prompt alone, [its tokens, D]."""
        lengths = self.mask_NT.sum(dim=1).tolist()
        return [states[: int(length)] for states, length in zip(self.states_NTD, lengths, strict=True)]
