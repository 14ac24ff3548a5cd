"""Random numbers by identity: what is drawn depends on who asks for what, never on batch, rank, device or order."""

import hashlib

import torch


def seeded_noise(shape: tuple[int, ...], *identity: str | int) -> torch.Tensor:
    """Gaussian noise that depends on `identity` alone: not on batch, rank or device."""
    return torch.randn(shape, generator=seeded_generator(*identity))


def seeded_generator(*identity: str | int) -> torch.Generator:
    """A CPU generator of its own for each identity (a prompt's id and a seed, say), seeded with a hash of it."""
    digest = hashlib.sha256("\x1f".join(map(str, identity)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def generator_of(number: int) -> torch.Generator:
    """A CPU generator seeded with a number that was calculated; one beyond 64 bits comes round from the other end."""
    return torch.Generator().manual_seed(number if -(2**63) <= number < 2**64 else number % 2**64)
