"""GenEval (Ghosh et al. 2023, arXiv 2310.11513): do the objects of a picture match the prompt, by detector and rules?

The rules, the prompts and the geometry need neither a network nor an image library; what does is imported where used.
"""
