"""The command whose tables stand in docs/log.md."""

import numpy as np

from benchmarks.reading.coverage import equal_models, main, pair_read


def test_the_tables_are_printed(capsys):
    main(["--prompts", "5", "8", "--trials", "8"])
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == 3 * (2 + 2)
    assert tables[0].startswith("| prompts | normal | OCR share |")
    assert tables[10].startswith("| 5 | none promised | none promised |")
    assert tables[11].startswith("| 8 | ")


def test_equal_models_are_hardly_ever_told_apart():
    any_verdict, below, excluding = equal_models(8, 100, np.random.default_rng(1))
    assert any_verdict <= 0.13
    assert below <= 0.08
    assert 0.01 < excluding <= 0.08


def test_a_gain_is_a_gain():
    random = np.random.default_rng(2)
    assert pair_read(random, 5000, 0.5).mean() > 0.1
    assert abs(pair_read(random, 5000, 0.0).mean()) < 0.02
