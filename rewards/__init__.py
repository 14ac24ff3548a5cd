"""Rewards: how good is this one image for this prompt? The same object trains a model and measures it."""
