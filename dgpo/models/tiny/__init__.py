"""The embedded base model: a small Stable Diffusion 3 that writes short words on signs. See MODEL_CARD.md."""
