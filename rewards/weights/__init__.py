"""Weights of rewards: where they are, how they are fetched, and how a published file is read."""
