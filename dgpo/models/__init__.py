"""Adapters: one file a model family, each giving latents, prompt conditioning and velocities the same shape."""
