"""Options that every reward on a network of our own process has."""

from rewards.card import Option

NETWORK_OPTIONS = (
    Option("dtype", "fp32", ("fp32", "bf16", "fp16"), "precision of the networks; heads and similarities stay fp32"),
    Option("device", "auto", None, "auto (the GPU of this process where there is one), cpu, cuda or cuda:N"),
)
