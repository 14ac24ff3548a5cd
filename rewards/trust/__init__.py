"""Whether a reward can be trusted on this machine: canaries, checks, published examples."""
