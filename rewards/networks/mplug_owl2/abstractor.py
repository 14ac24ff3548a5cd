"""The abstractor of mPLUG-Owl2: learnt queries that look at themselves and at the ViT's tokens, layer by layer."""

import torch
import torch.nn.functional as F
from torch import nn

from rewards.networks.blip import attend
from rewards.networks.mplug_owl2.sizes import AbstractorSizes, Sizes

_NORM_EPS = 1e-5  # of all norms but the one in the MLP, whatever the config says


class Abstractor(nn.Module):
    """Vision tokens [B, P, V] to image embeddings [B, Q + 1, D] for the language model; the last is a constant."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, layers = sizes.vision.width, sizes.abstractor.layers
        self.query_embeds = nn.Parameter(torch.zeros(1, sizes.abstractor.queries, width))
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, sizes.language.width))
        self.encoder = nn.ModuleDict(
            {"layers": nn.ModuleList(Layer(width, sizes.vision.tokens, sizes.abstractor) for _ in range(layers))}
        )
        self.visual_fc = nn.Linear(width, sizes.language.width)

    def forward(self, tokens_BPV: torch.Tensor) -> torch.Tensor:
        count = len(tokens_BPV)
        query_BQV = self.query_embeds.expand(count, -1, -1)
        for layer in self.encoder["layers"].children():
            query_BQV = layer(query_BQV, tokens_BPV)
        return torch.cat([self.visual_fc(query_BQV), self.vit_eos.expand(count, -1, -1)], dim=1)


class Layer(nn.Module):
    def __init__(self, width: int, tokens: int, sizes: AbstractorSizes) -> None:
        super().__init__()
        self.crossattention = CrossAttention(width, tokens, sizes)

    def forward(self, query_BQV: torch.Tensor, tokens_BPV: torch.Tensor) -> torch.Tensor:
        return self.crossattention(query_BQV, tokens_BPV)


class CrossAttention(nn.Module):
    """Attention and MLP; the first residual is the normalised query, not the query as it came."""

    def __init__(self, width: int, tokens: int, sizes: AbstractorSizes) -> None:
        super().__init__()
        self.norm1, self.normk = nn.LayerNorm(width, _NORM_EPS), nn.LayerNorm(width, _NORM_EPS)
        self.attention = Attention(width, tokens, sizes)
        self.output = nn.ModuleDict(
            {
                "out_proj": nn.Linear(width, width),
                "norm2": nn.LayerNorm(width, _NORM_EPS),
                "mlp": GatedMlp(width, sizes),
            }
        )

    def forward(self, query_BQV: torch.Tensor, tokens_BPV: torch.Tensor) -> torch.Tensor:
        query = self.norm1(query_BQV)
        seen = torch.cat([query, self.normk(tokens_BPV)], dim=1)
        x = query + self.output["out_proj"](self.attention(query, seen))
        return x + self.output["mlp"](self.output["norm2"](x))


class Attention(nn.Module):
    """Queries and keys know their places, values do not. The places are as published, in their precision."""

    q_pos_embed: torch.Tensor
    k_pos_embed: torch.Tensor

    def __init__(self, width: int, tokens: int, sizes: AbstractorSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.register_buffer("q_pos_embed", torch.zeros(sizes.queries, width))
        self.register_buffer("k_pos_embed", torch.zeros(tokens, width))

    def forward(self, query: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        places = torch.cat([self.q_pos_embed, self.k_pos_embed])
        return attend(self.query(query + self.q_pos_embed), self.key(seen + places), self.value(seen), self.heads)


class GatedMlp(nn.Module):
    def __init__(self, width: int, sizes: AbstractorSizes) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(width, sizes.mlp), nn.Linear(width, sizes.mlp)
        self.w2 = nn.Linear(sizes.mlp, width)
        self.ffn_ln = nn.LayerNorm(sizes.mlp, sizes.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(self.ffn_ln(F.silu(self.w1(x)) * self.w3(x)))
