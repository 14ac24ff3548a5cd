"""Exit codes: the same for every command, and every one of them stands here.

Errors know theirs (`rewards.errors`): a wrong use is 2, what the environment lacks is 3, a bug is 1.
"""

DONE = 0
BUG = 1
WRONG_USE = 2
ENVIRONMENT = 3
GATE_FAILED = 4
SOME_FAILED = 5
INTERRUPTED = 130
READER_GONE = 141
