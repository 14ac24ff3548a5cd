"""ImageReward: how people would rate an image for its prompt."""
