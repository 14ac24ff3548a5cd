"""The LLaMA of mPLUG-Owl2, in which keys, values and norms have one copy for text and another for the image."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from rewards.networks.mplug_owl2.sizes import LanguageSizes

Turn = tuple[torch.Tensor, torch.Tensor]  # cosines and sines [T, width of a head]


class Multiway(nn.Module):
    """Two copies of a layer: the first for text, the second for the positions `image` of the sequence [B, T, D]."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([make(), make()])

    def forward(self, x: torch.Tensor, image: slice) -> torch.Tensor:
        text, picture = self.multiway
        return torch.cat([text(x[:, : image.start]), picture(x[:, image]), text(x[:, image.stop :])], dim=1)


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), in fp32 whatever the network runs in, times a weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        exact = x.float()
        return self.weight * (exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class DecoderLayer(nn.Module):
    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.input_layernorm = Multiway(lambda: RmsNorm(sizes.width, sizes.eps))
        self.self_attn = SelfAttention(sizes)
        self.post_attention_layernorm = Multiway(lambda: RmsNorm(sizes.width, sizes.eps))
        self.mlp = Mlp(sizes)

    def forward(self, x: torch.Tensor, image: slice, turn: Turn) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x, image), image, turn)
        return x + self.mlp(self.post_attention_layernorm(x, image))


class SelfAttention(nn.Module):
    """Causal; queries and the output are projected alike for text and image, keys and values are not."""

    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.heads = sizes.heads

        def project() -> nn.Module:
            return nn.Linear(sizes.width, sizes.width, bias=False)

        self.q_proj, self.o_proj = project(), project()
        self.k_proj, self.v_proj = Multiway(project), Multiway(project)

    def forward(self, x: torch.Tensor, image: slice, turn: Turn) -> torch.Tensor:
        projected = self.q_proj(x), self.k_proj(x, image), self.v_proj(x, image)
        query, key, value = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in projected)
        mixed = F.scaled_dot_product_attention(rotate(query, turn), rotate(key, turn), value, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, sizes: LanguageSizes) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(sizes.width, sizes.mlp, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(sizes.mlp, sizes.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def turns(length: int, sizes: LanguageSizes, like: torch.Tensor) -> Turn:
    """By what each position is rotated (RoFormer, arXiv 2104.09864): position * theta^(-2i / width of a head).

    Computed in fp32, and given in the dtype and on the device of `like`.
    """
    width = sizes.width // sizes.heads
    exponents = torch.arange(0, width, 2, device=like.device).float() / width
    angles = torch.outer(torch.arange(length, device=like.device).float(), sizes.rope_theta**-exponents)
    both = torch.cat([angles, angles], dim=-1)
    return both.cos().to(like.dtype), both.sin().to(like.dtype)


def rotate(x: torch.Tensor, turn: Turn) -> torch.Tensor:
    """[..., T, width of a head], in which the first half of the width pairs with the second."""
    cosines, sines = turn
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines
