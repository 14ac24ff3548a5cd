"""Exit codes: the same for every command and every `python -m` of ours, and every one of them stands here.

Errors know theirs (`rewards.errors`). `cli.shadowing` alone says 2 by itself, since it runs before any of ours.
"""

DONE = 0
BUG = 1
WRONG_USE = 2
ENVIRONMENT = 3
GATE_FAILED = 4
SOME_FAILED = 5
INTERRUPTED = 130
READER_GONE = 141
