"""mPLUG-Owl2 (Ye et al. 2023, arXiv 2311.04257) as a judge: a ViT, an abstractor that sums its tokens up, and LLaMA-2.

Module names are those of the published checkpoints, which therefore load without renaming. Nothing here is random or
dropped out: the network is for scoring only.

Shapes: B images, P vision tokens (one, then the patches), Q queries, I = Q + 1 image embeddings, T positions of a
sequence; V and D the widths of the vision parts and of the language model.
"""
