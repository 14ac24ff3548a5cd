"""The 80 objects GenEval speaks of, in the order of the detector's classes, and how a prompt names them.

Source: object_names.txt of github.com/djghosh13/geneval at af4902f24d3ca90ebbb446dd9891a59e0f82725f. The order is that
of COCO's 80 classes; mouse, remote and keyboard have longer names. A detector's class is matched by its index, never by
the name its checkpoint gives it.
"""

OBJECTS: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote", "computer keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
COLOURS: tuple[str, ...] = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip


def with_article(words: str) -> str:
    """`words` behind "an" if they begin with one of aeiou, else behind "a"; sound does not count.

    >>> with_article("orange"), with_article("red umbrella")
    ('an orange', 'a red umbrella')
    """
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(name: str) -> str:
    """`name` with "es" behind an s and "s" behind anything else, as the published prompts have it.

    >>> plural("bus"), plural("sandwich"), plural("knife"), plural("sheep")
    ('buses', 'sandwichs', 'knifes', 'sheeps')
    """
    return name + ("es" if name.endswith("s") else "s")
