"""Rewards that ask a vision-language model: DeQA, UnifiedReward, and judges behind a server."""
