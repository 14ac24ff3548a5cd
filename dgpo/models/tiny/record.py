"""What was planted in the embedded model's pretraining, to be said wherever a gain on it is shown.

`python -m dgpo.models.tiny.record` prints it.
"""

import json
from pathlib import Path

RECORD = Path(__file__).parent / "weights" / "pretraining.json"


def bad_share() -> float:
    """Share of the second pretraining stage's signs that were misspelled on purpose."""
    return json.loads(RECORD.read_text())["plan"]["bad_share"]


def notice() -> str:
    return (
        f"The embedded model was pretrained on data of uneven quality: {bad_share():.0%} of the signs of its second "
        "stage were misspelled on purpose, so that it can write and often does not. Part of a gain on it is made by "
        "that share; see dgpo/models/tiny/MODEL_CARD.md."
    )


if __name__ == "__main__":
    print(notice())
