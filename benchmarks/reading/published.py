"""Published numbers, as facts to stand beside our own: Tables 1 and 2 of DGPO (Luo et al. 2025, arXiv 2510.08425).

They stand here once, with two digits as they were printed and in the raw unit of each reward.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "Luo et al. 2025, arXiv 2510.08425"
TABLE_1 = f"{SOURCE}, Table 1"
TABLE_2 = f"{SOURCE}, Table 2"

# GenEval: overall, then single object, two object, counting, colours, position, attribute binding.
GENEVAL: Mapping[str, tuple[float, ...]] = {
    "Show-o": (0.53, 0.95, 0.52, 0.49, 0.82, 0.11, 0.28),
    "Emu3-Gen": (0.54, 0.98, 0.71, 0.34, 0.81, 0.17, 0.21),
    "JanusFlow": (0.63, 0.97, 0.59, 0.45, 0.83, 0.53, 0.42),
    "Janus-Pro-7B": (0.80, 0.99, 0.89, 0.59, 0.90, 0.79, 0.66),
    "GPT-4o": (0.84, 0.99, 0.92, 0.85, 0.92, 0.75, 0.61),
    "LDM": (0.37, 0.92, 0.29, 0.23, 0.70, 0.02, 0.05),
    "SD1.5": (0.43, 0.97, 0.38, 0.35, 0.76, 0.04, 0.06),
    "SD2.1": (0.50, 0.98, 0.51, 0.44, 0.85, 0.07, 0.17),
    "SD-XL": (0.55, 0.98, 0.74, 0.39, 0.85, 0.15, 0.23),
    "DALLE-2": (0.52, 0.94, 0.66, 0.49, 0.77, 0.10, 0.19),
    "DALLE-3": (0.67, 0.96, 0.87, 0.47, 0.83, 0.43, 0.45),
    "FLUX.1 Dev": (0.66, 0.98, 0.81, 0.74, 0.79, 0.22, 0.45),
    "SD3.5-L": (0.71, 0.98, 0.89, 0.73, 0.83, 0.34, 0.47),
    "SANA-1.5 4.8B": (0.81, 0.99, 0.93, 0.86, 0.84, 0.59, 0.65),
    "SD3.5-M": (0.63, 0.98, 0.78, 0.50, 0.81, 0.24, 0.52),
    "SD3.5-M + Flow-GRPO": (0.95, 1.00, 0.99, 0.95, 0.92, 0.99, 0.86),
    "SD3.5-M + DGPO": (0.97, 1.00, 0.99, 0.97, 0.95, 0.99, 0.91),
}

# Table 2: each model's task metrics on the task's own test prompts (suite, value), and what DrawBench's images score.
TASK_METRICS: Mapping[str, Mapping[str, float]] = {
    "SD3.5-M": {"geneval": 0.63, "ocr": 0.59, "pickscore": 21.72},
    "Flow-GRPO, GenEval": {"geneval": 0.95},
    "DGPO, GenEval": {"geneval": 0.97},
    "Flow-GRPO, OCR": {"ocr": 0.92},
    "DGPO, OCR": {"ocr": 0.96},
    "Flow-GRPO, PickScore": {"pickscore": 23.31},
    "DGPO, PickScore": {"pickscore": 23.89},
}
# The table's columns: tasks by their suites, then rewards on DrawBench's images, each with its head.
TASKS: Mapping[str, str] = {"geneval": "GenEval", "ocr": "OCR", "pickscore": "PickScore (task)"}
DRAWBENCH_COLUMNS: Mapping[str, str] = {
    "aesthetic": "Aesthetic",
    "deqa": "DeQA",
    "imagereward": "ImageReward",
    "pickscore": "PickScore",
    "unifiedreward": "UnifiedReward",
}
DRAWBENCH: Mapping[str, tuple[float, ...]] = {
    "SD3.5-M": (5.39, 4.07, 0.87, 22.34, 3.33),
    "Flow-GRPO, GenEval": (5.25, 4.01, 1.03, 22.37, 3.51),
    "DGPO, GenEval": (5.31, 4.03, 1.08, 22.41, 3.60),
    "Flow-GRPO, OCR": (5.32, 4.06, 0.95, 22.44, 3.42),
    "DGPO, OCR": (5.37, 4.09, 1.02, 22.52, 3.48),
    "Flow-GRPO, PickScore": (5.92, 4.22, 1.28, 23.53, 3.66),
    "DGPO, PickScore": (6.08, 4.40, 1.32, 23.91, 3.74),
}

SIZE = 512
BASE_MODEL = "stable-diffusion-3.5-medium"
# Images per prompt that the published test files amount to.
SEEDS: Mapping[str, int] = {"geneval": 4, "drawbench": 5, "ocr": 1, "pickscore": 1}
# How the published numbers were made, as far as the released code shows it, where that differs from ours.
PROTOCOL_1 = "Four images of each of 553 prompts. The table gives neither intervals nor counts of failed images."
PROTOCOL_2 = (
    "All rows are SD3.5-M at 512 x 512, as it is or trained on what is named. DrawBench is there a file of 1,000 lines,"
    " 200 prompts five times each, drawn without fixed seeds. The released code sends DeQA its images as JPEG of"
    " quality 75 and computes its score in half precision; UnifiedReward sees images resized to 512 x 512, and an"
    " answer that cannot be parsed enters the mean as 0.0. The table gives neither intervals nor counts of failed"
    " images."
)
OURS = (
    "Rows without a dagger were measured here: on the PNG as it was drawn, in raw units; a score that could not be made"
    " is in no mean and is counted; in brackets the 95 % interval over prompts."
)
