"""The ViT of mPLUG-Owl2: pre-norm, quick-GELU, fused projections, and every token of its last block in its output."""

import torch
import torch.nn.functional as F
from torch import nn

from rewards.networks.mplug_owl2.sizes import VisionSizes


class VisionTower(nn.Module):
    """Normalised pixels [B, 3, size, size] to tokens [B, P, V], the class token first."""

    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(Block(sizes) for _ in range(sizes.layers))})
        self.post_layernorm = nn.LayerNorm(sizes.width, sizes.eps)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(pixels)
        for block in self.encoder["layers"].children():
            x = block(x)
        return self.post_layernorm(x)


class Embeddings(nn.Module):
    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.position_embedding = nn.Parameter(torch.zeros(1, sizes.tokens, sizes.width))
        self.patch_embed = nn.Conv2d(3, sizes.width, sizes.patch, sizes.patch, bias=False)
        self.pre_layernorm = nn.LayerNorm(sizes.width, sizes.eps)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return self.pre_layernorm(tokens + self.position_embedding)


class Block(nn.Module):
    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.input_layernorm = nn.LayerNorm(width, sizes.eps)
        self.self_attn = nn.ModuleDict(
            {"query_key_value": nn.Linear(width, 3 * width), "dense": nn.Linear(width, width)}
        )
        self.post_attention_layernorm = nn.LayerNorm(width, sizes.eps)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, sizes.mlp), "fc2": nn.Linear(sizes.mlp, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self._attend(self.input_layernorm(x))
        return x + self.mlp["fc2"](quick_gelu(self.mlp["fc1"](self.post_attention_layernorm(x))))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """The rows of the fused projection are ordered head by head, each with its query, key and value."""
        fused = self.self_attn["query_key_value"](x).unflatten(-1, (self.heads, 3, -1))
        query, key, value = fused.permute(3, 0, 2, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.self_attn["dense"](mixed.transpose(1, 2).flatten(2))


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)
