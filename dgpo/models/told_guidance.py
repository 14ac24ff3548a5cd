"""Networks that take the guidance as an input: it was distilled into them."""

from dgpo.models.pipeline_model import PipelineModel


class ToldGuidance(PipelineModel):
    """One pass a velocity, whatever the guidance; there is no unguided prediction. `predict` takes the `scale`."""

    @classmethod
    def passes(cls, guidance: float | None) -> int:
        return 1

    def told(self, guidance: float | None) -> dict[str, float]:
        """In learning the guidance of the rollouts."""
        return {"scale": self.scale if guidance is None else guidance}
