"""How a diffusion model learns from groups of scored images."""

__version__ = "0.1.0"
