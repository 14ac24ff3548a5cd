"""The whole network, asked one question: which of a few tokens comes next, after text, an image, and text."""

import torch
from torch import nn

from rewards.networks.mplug_owl2.abstractor import Abstractor
from rewards.networks.mplug_owl2.language import DecoderLayer, RmsNorm, turns
from rewards.networks.mplug_owl2.sizes import Sizes
from rewards.networks.mplug_owl2.vision import VisionTower


class MplugOwl2(nn.Module):
    """Embeddings of text and rows of the head are few: `place` leaves both tables where they are."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        language = sizes.language
        self.sizes = sizes
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(language.vocabulary, language.width),
                "layers": nn.ModuleList(DecoderLayer(language) for _ in range(language.layers)),
                "norm": RmsNorm(language.width, language.eps),
                "vision_model": VisionTower(sizes.vision),
                "visual_abstractor": Abstractor(sizes),
            }
        )
        self.lm_head = nn.Linear(language.width, language.vocabulary, bias=False)

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Bring everything that computes to a device and dtype."""
        for name in ("layers", "norm", "vision_model", "visual_abstractor"):
            self.model[name].to(device, dtype)

    def embed_text(self, ids_T: torch.Tensor) -> torch.Tensor:
        """[1, T, D], where the table lies and as precise as it is."""
        return self.model["embed_tokens"](ids_T)[None]

    def embed_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [B, 3, size, size] to image embeddings [B, I, D]."""
        return self.model["visual_abstractor"](self.model["vision_model"](pixels))

    def read(self, before_1TD: torch.Tensor, image_BID: torch.Tensor, after_1TD: torch.Tensor) -> torch.Tensor:
        """What the network thinks at the end of a sequence [B, D], normalised; the head makes logits of it."""
        count, start = len(image_BID), before_1TD.shape[1]
        image = slice(start, start + image_BID.shape[1])
        x = torch.cat([before_1TD.expand(count, -1, -1), image_BID, after_1TD.expand(count, -1, -1)], dim=1)
        turn = turns(x.shape[1], self.sizes.language, x)
        for layer in self.model["layers"].children():
            x = layer(x, image, turn)
        return self.model["norm"](x[:, -1])
