"""How the embedded model is drawn from where nobody says otherwise."""

from dgpo.sections import Sampling

SAMPLING = Sampling(sampler="euler", steps=10, guidance=1.0, height=32, width=64, text_length=0)
