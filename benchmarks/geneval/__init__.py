"""GenEval (Ghosh et al. 2023): its prompts, its official summary, and its table beside the published rows."""
