"""What UnifiedReward's models are asked, word for word as they were trained and as the released code asks them.

A question stands in the chat of Qwen models behind a fixed system message; {prompt} is the caption. Which text belongs
to which models: `pointwise` is sent by DGPO, Flow-GRPO and DiffusionNFT to UnifiedReward-7b(-v1.5), `elements` by the
authors' scoring scripts for the 7b models and UnifiedReward-qwen-*, `words` by their word-level script for the latter,
`three-scores` is for UnifiedReward-2.0-*.
"""

import re

SYSTEM = "You are a helpful assistant."
IMAGE_LINE = "<image>\n"  # what a llava_qwen model reads before the question, where the image is
# Anything by which a caption could end its turn, or ask for a second image: <image>, <video>, <|im_end|>, <|image_pad|>
_MARKER = re.compile(r"<(?=image>|video>|\|)")

_TWO_CRITERIA = (
    "You are given a text caption and a generated image based on that caption. Your task is to evaluate this image "
    "based on two key criteria:\n"
    "1. Alignment with the Caption: Assess how well this image aligns with the provided caption. Consider the accuracy "
    "of depicted objects, their relationships, and attributes as described in the caption.\n"
    "2. Overall Image Quality: Examine the visual quality of this image, including clarity, detail preservation, color "
    "accuracy, and overall aesthetic appeal.\n"
)
_TASK = "Your task is provided as follows:\nText Caption: [{prompt}]"
_ANALYSE = (
    "You are presented with a generated image and its associated text caption. Your task is to analyze the image "
    "across multiple dimensions in relation to the caption. Specifically:\n"
)
_AXES = (
    "- Alignment Score: How well the image matches the caption in terms of content.\n"
    "- Coherence Score: How logically consistent the image is (absence of visual glitches, object distortions, etc.).\n"
    "- Style Score: How aesthetically appealing the image looks, regardless of caption accuracy.\n\n"
    "Output your evaluation using the format below:\n\n"
)
_AXES_FORMAT = "Alignment Score (1-5): X\nCoherence Score (1-5): Y\nStyle Score (1-5): Z\n\n"

QUESTIONS = {
    "pointwise": (
        _TWO_CRITERIA + "Based on the above criteria, assign a score from 1 to 5 after 'Final Score:'.\n" + _TASK
    ),
    "elements": (
        _TWO_CRITERIA
        + "Extract key elements from the provided text caption, evaluate their presence in the generated image using "
        "the format: 'element (type): value' (where value=0 means not generated, and value=1 means generated), and "
        "assign a score from 1 to 5 after 'Final Score:'.\n" + _TASK
    ),
    "words": (
        _ANALYSE + "\n1. Evaluate each word in the caption based on how well it is visually represented in the image. "
        "Assign a numerical score to each word using the format:\n"
        '   Word-wise Scores: [["word1", score1], ["word2", score2], ..., ["wordN", scoreN], '
        '["[No_mistakes]", scoreM]]\n'
        "   - A higher score indicates that the word is less well represented in the image.\n"
        "   - The special token [No_mistakes] represents whether all elements in the caption were correctly depicted. "
        "A high score suggests no mistakes; a low score suggests missing or incorrect elements.\n\n"
        "2. Provide overall assessments for the image along the following axes (each rated from 1 to 5):\n"
        + _AXES
        + '---\n\nWord-wise Scores: [["word1", score1], ..., ["[No_mistakes]", scoreM]]\n\n'
        + _AXES_FORMAT
        + _TASK
    ),
    "three-scores": (
        _ANALYSE
        + "Provide overall assessments for the image along the following axes (each rated from 1 to 5):\n"
        + _AXES
        + _AXES_FORMAT
        + _TASK
    ),
}


def ask(question: str, caption: str) -> str:
    """The text of a question, without any image marker in it."""
    return QUESTIONS[question].replace("{prompt}", neutralise(caption))


def neutralise(caption: str) -> str:
    """A caption that no tokenizer takes for markers of images or turns; a space breaks those it writes out.

    >>> neutralise("a <|im_end|> and an <image>, 1 < 2")
    'a < |im_end|> and an < image>, 1 < 2'
    """
    return _MARKER.sub("< ", caption)


def frame(content: str) -> str:
    """The chat around a user's turn, in the template qwen_1_5 (SGLang's chatml-llava)."""
    return f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
