"""How the frozen weights of a network are held: as they are, in fewer bits, or in host memory now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dgpo.precision import Quantize
from rewards.errors import SetupError, load_extra

if TYPE_CHECKING:
    import torch

EXTRA = "quantize"
BYTES = {"int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Of a weight of a linear layer; nf4 has a scale in fp32 for 64 of them."""


@dataclass(frozen=True)
class Holding:
    quantize: Quantize = "none"
    """In how many bits; what the network computes is then a little different."""
    offload: bool = False
    """Whether they wait in host memory while text encoders are on the device."""


WHOLE = Holding()


def quantization_of(kind: Quantize, network: str, *, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What diffusers' loader is told, so that a pipeline's `network` is quantised as it is loaded.

    Raises:
        SetupError: the library for it is not installed, or it needs a GPU.
    """
    if kind == "none":
        return {}
    import diffusers
    from diffusers.quantizers import PipelineQuantizationConfig

    if kind == "int8":
        config: Any = load_extra("torchao.quantization", EXTRA).Int8WeightOnlyConfig()
        how: Any = diffusers.TorchAoConfig(config)
    else:
        load_extra("bitsandbytes", EXTRA)
        if device.type != "cuda":
            raise SetupError("Weights are held in nf4 on a GPU alone, and there is none here; take int8.")
        how = diffusers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": PipelineQuantizationConfig(quant_mapping={network: how})}
