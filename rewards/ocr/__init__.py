"""Rewards that read the text in an image, and the engines that read it."""
