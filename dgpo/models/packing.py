"""Latents as rows of patches, two cells a side, as FLUX.1 and Qwen-Image read them."""

import torch


def pack(x_BCHW: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] to [B, H/2 * W/2, 4 C], row by row; of a patch the channel comes first."""
    batch, channels, height, width = x_BCHW.shape
    patches = x_BCHW.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, height // 2 * (width // 2), 4 * channels)


def unpack(packed_BLD: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Back to [B, C, H, W], of which `shape` gives the last three."""
    channels, height, width = shape[-3:]
    patches = packed_BLD.view(-1, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(-1, channels, height, width)


def patch_places(height: int, width: int, device: torch.device) -> torch.Tensor:
    """FLUX.1's ids of the patches of a latent, [H/2 * W/2, 3]: 0, row, column."""
    rows, columns = torch.meshgrid(
        torch.arange(height // 2, device=device), torch.arange(width // 2, device=device), indexing="ij"
    )
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).view(-1, 3).float()
