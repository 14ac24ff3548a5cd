import math

import pytest
import torch

from dgpo.sections import Watch
from dgpo.supervision.alarms import Alarms, Watched

OCR = Watched("ocr@1", best=1.0, worst=0.0)
FREE = Watched("free@1", best=None, worst=None)


def hear(alarms, *parts, dead=0.0, failures=(), images=None):
    table = torch.tensor(parts, dtype=torch.float64)
    return alarms.hear(table, dead, failures, images=images or table[0].numel())


def varied(step):
    return [[0.1 * step, 0.2 + step], [0.3, 0.4]]


def same(value):
    return [[value, value], [value, value]]


class TestConstant:
    def test_is_warned_of_half_way_and_then_stops(self):
        alarms = Alarms(Watch(constant_after=4), [FREE], max_failed=0)
        heard = [hear(alarms, same(0.5)) for _ in range(4)]
        assert [len(alarm) for alarm in heard] == [0, 1, 0, 1]
        warning, stop = heard[1][0], heard[3][0]
        assert not warning.stop
        assert "free@1 gave each of the 8 images of the last 2 iterations the same score, 0.5" in warning.sentence
        assert "stops after 4 such iterations" in warning.sentence
        assert (stop.stop, stop.key) == (True, "free@1")
        assert "the 16 images of the last 4 iterations" in stop.sentence
        assert "--set watch.constant=warn" in stop.sentence

    def test_one_other_score_begins_anew(self):
        alarms = Alarms(Watch(constant_after=4), [FREE], max_failed=0)
        for other in (varied(1), same(0.25)):
            for _ in range(3):
                assert not any(alarm.stop for alarm in hear(alarms, same(0.5)))
            assert hear(alarms, other) == []

    def test_rounding_errors_are_no_difference_and_small_scores_are(self):
        alarms = Alarms(Watch(constant_after=2), [FREE], max_failed=0)
        hear(alarms, [[20.0, 20.0 + 1e-6]])
        assert hear(alarms, [[20.0 + 2e-6, 20.0]])[0].stop
        alarms = Alarms(Watch(constant_after=1), [FREE], max_failed=0)
        assert hear(alarms, [[1e-9, 2e-9]]) == []

    def test_a_slow_drift_of_constants_is_no_constant(self):
        alarms = Alarms(Watch(constant_after=3), [FREE], max_failed=0)
        heard = [hear(alarms, same(1.0 + 0.9e-6 * step)) for step in range(8)]
        assert not any(alarm.stop for alarms in heard for alarm in alarms)

    def test_images_that_failed_do_not_count(self):
        alarms = Alarms(Watch(constant_after=2), [FREE], max_failed=9)
        hear(alarms, [[0.5, math.nan]])
        assert hear(alarms, [[math.nan, math.nan]]) == []
        (alarm,) = hear(alarms, [[math.nan, 0.5]])
        assert alarm.stop
        assert "each of the 2 images" in alarm.sentence

    def test_at_the_best_value_it_is_saturated_and_only_said_now_and_then(self):
        alarms = Alarms(Watch(constant_after=4), [OCR], max_failed=0)
        heard = [hear(alarms, same(1.0)) for _ in range(20)]
        assert [step for step, alarm in enumerate(heard, start=1) if alarm] == [2, 4, 8, 16]
        for alarm in heard[15]:
            assert not alarm.stop
            assert "saturated at its bound" in alarm.sentence
            assert "broken" not in alarm.sentence

    @pytest.mark.parametrize("alive", [True, False])
    def test_at_the_worst_value_it_is_believed_if_it_tells_canaries_apart(self, alive):
        alarms = Alarms(Watch(constant_after=2), [OCR], max_failed=0)
        alarms.alive = ["ocr@1"] if alive else []
        hear(alarms, same(0.0))
        (alarm,) = hear(alarms, same(0.0))
        assert alarm.stop is not alive
        assert ("the model fails at all that is asked of it" in alarm.sentence) is alive

    def test_between_its_bounds_being_alive_is_no_excuse(self):
        alarms = Alarms(Watch(constant_after=1), [OCR], max_failed=0)
        alarms.alive = ["ocr@1"]
        assert hear(alarms, same(0.5))[0].stop

    def test_each_reward_of_a_mix_is_judged_alone(self):
        alarms = Alarms(Watch(constant_after=1), [OCR, FREE], max_failed=0)
        (alarm,) = hear(alarms, varied(1), same(3.0))
        assert alarm.key == "free@1"

    def test_can_be_warned_of_only_or_not_at_all(self):
        warns, silent = (Alarms(Watch(constant_after=2, constant=what), [FREE], 0) for what in ("warn", "off"))
        heard = [hear(warns, same(0.5)) for _ in range(4)]
        assert [[alarm.stop for alarm in alarms] for alarms in heard] == [[False], [False], [], [False]]
        assert "stops after" not in heard[3][0].sentence
        assert all(hear(silent, same(0.5)) == [] for _ in range(9))


class TestDeadGroups:
    def test_are_said_after_so_many_iterations_and_then_sparsely(self):
        alarms = Alarms(Watch(constant_after=3), [FREE], max_failed=0)
        groups = [[0.1, 0.1], [0.2, 0.2]]
        heard = [hear(alarms, groups, dead=1.0) for _ in range(7)]
        assert [step for step, alarm in enumerate(heard, start=1) if alarm] == [3, 6]
        assert "All groups were dead in the last 3 iterations" in heard[2][0].sentence
        hear(alarms, varied(1), dead=0.5)
        assert hear(alarms, groups, dead=1.0) == []

    def test_are_not_said_twice_where_a_constant_reward_explains_them(self):
        alarms = Alarms(Watch(constant_after=2), [OCR], max_failed=0)
        sentences = [alarm.sentence for _ in range(4) for alarm in hear(alarms, same(1.0), dead=1.0)]
        assert len(sentences) == 3
        assert all("saturated" in sentence for sentence in sentences)


class TestFailures:
    def test_the_first_is_told_with_its_reason_and_then_only_a_doubled_share(self):
        alarms = Alarms(Watch(), [FREE], max_failed=8)
        counts = [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 6]
        heard = [
            hear(alarms, varied(step), failures=["free@1: timed out"] * count, images=16)
            for step, count in enumerate(counts)
        ]
        # shares of all so far: 1/32 at the second, 2/48 = 0.042, ... 9/160 = 0.056; then 10/160 = 0.0625 is twice 1/32
        assert [step for step, alarm in enumerate(heard) if alarm] == [1, 10]
        first, later = heard[1][0].sentence, heard[10][0].sentence
        assert first.startswith("1 image of 16 could not be scored: free@1: timed out.")
        assert "more than 8 an iteration" in first
        assert "6.2% of those of the last 10 iterations could not be scored (3.1% when" in later
