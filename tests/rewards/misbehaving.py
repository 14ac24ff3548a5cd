"""A reward of one's own that does what no reward may: its option `how` says what, on images whose first pixel is black.

Or in another of its methods, which the option `at` names; `at=made` is where it is built.
Its score is the mean grey level over 255.
"""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from rewards.card import Card, Option
from rewards.errors import ScoringError
from rewards.reward import Reward
from rewards.score import Score


class Odd(Reward):
    card = Card(
        name="odd",
        version=1,
        unit="grey level",
        bounds=(0, 1),
        higher_is_better=True,
        summary="for tests",
        options=(Option("how", "well", None, "what it does wrong"), Option("at", "score", None, "where")),
    )

    def __init__(self, spec, card):
        super().__init__(spec, card)
        self.misbehave_at("made")

    def prepare_checks(self, prompts):
        return self.misbehave_at("prepare_checks")

    def check(self, prompt):
        return self.misbehave_at("check")

    def verify(self):
        return self.misbehave_at("verify")

    def provenance(self):
        return self.misbehave_at("provenance") or super().provenance()

    def misbehave_at(self, place):
        options = dict(self.spec.options)
        return self.misbehave(options["how"], [], []) or None if options.get("at") == place else None

    def score(self, images, prompts):
        values = [float(np.asarray(image.convert("L")).mean()) / 255 for image in images]
        if "at" in dict(self.spec.options) or all(image.convert("L").getpixel((0, 0)) for image in images):
            return [Score(value) for value in values]
        return self.misbehave(dict(self.spec.options).get("how", "well"), values, images)

    def misbehave(self, how, values, images):
        match how:
            case "sys.exit":
                sys.exit(0)
            case "interrupt":
                raise KeyboardInterrupt
            case "exit":
                os._exit(0)
            case "abort":
                os.abort()
            case "segfault":
                ctypes.string_at(0)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1e6)
            case "loud and hang":
                print("hanging", flush=True)
                time.sleep(1e6)
            case "spin":
                while True:
                    pass
            case "fork":
                os.fork()
            case "fork and die":
                if os.fork():
                    os._exit(0)
                time.sleep(20)
            case "print":
                print("hello from the reward")
                os.write(1, b"hello from below\n")
            case "chdir":
                os.chdir("/")
            case "gradients":
                import torch

                torch.set_grad_enabled(False)
            case "paint":
                for image in images:
                    image.paste((0, 0, 0), (0, 0, *image.size))
            case "library":
                import a_library_that_nobody_has  # noqa: F401  # pyright: ignore[reportMissingImports]
            case "a judgement":
                raise ScoringError("too dark")
            case "assert":
                assert not images, "no image is good enough"
            case "stop":
                raise StopIteration
            case "bug":
                return values.nothing
            case "mistake":
                raise ValueError("my own mistake")
            case "escape":
                raise ValueError(f"\x1b[31mred {object()}")
            case "none":
                return None
            case "text":
                return "good"
            case "texts":
                return ["good" for _ in values]
            case "text score":
                return [Score("0.5") for _ in values]  # pyright: ignore[reportArgumentType]
            case "few":
                return [Score(0.5)] * (len(values) - 1)
            case "many":
                return (Score(0.5) for _ in iter(int, 1))
            case "dict":
                return dict(enumerate(values))
            case "floats":
                return values
            case "generator":
                return (Score(value) for value in values)
            case "array":
                return np.array(values)
            case "tensor":
                import torch

                return torch.tensor(values, dtype=torch.float64)
            case "numbers":
                return [Score(np.float32(value)) for value in values]  # pyright: ignore[reportArgumentType]
            case "huge":
                return [10**400 for _ in values]
            case "beyond":
                return [7.0 for _ in values]
            case "nearly":
                return [1.0 + 1e-7 for _ in values]
        return [Score(value) for value in values]
