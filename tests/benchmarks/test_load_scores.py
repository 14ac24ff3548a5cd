"""Scores as pandas hands them on: several folders, kinds of columns, and back to a file."""

import io

import pandas
import pytest

from benchmarks import load_scores
from benchmarks.harness.store import COLUMNS
from rewards.errors import UsageError


@pytest.fixture
def folders(write_results):
    a = write_results("a", {"taste@1": {(0, 0): 0.5, (1, 0): None}})
    return a, write_results("b", {"taste@1": {(0, 0): 0.75, (1, 0): 0.25}, "depth@1": {(0, 0): 1.0, (1, 0): 2.0}})


def test_several_folders_are_one_table(folders):
    table = load_scores(*folders)
    assert tuple(table.columns) == COLUMNS
    assert table["run"].tolist() == ["a"] * 2 + ["b"] * 4
    assert table.index.tolist() == list(range(6))
    assert load_scores(folders[0]).equals(table[table["run"] == "a"])
    means = table.pivot_table(values="score", index="run", columns="reward")
    assert (means.loc["a", "taste@1"], means.loc["b", "taste@1"], means.loc["b", "depth@1"]) == (0.5, 0.5, 1.5)


def test_kinds_of_columns_and_what_failed(folders):
    table = load_scores(str(folders[0]))
    kinds = {name: table[name].dtype.kind for name in ("seed", "score", "seconds")}
    assert kinds == {"seed": "i", "score": "f", "seconds": "f"}
    texts = table.drop(columns=["seed", "score", "seconds"])
    assert not texts.isna().any().any()
    assert table["status"].tolist() == ["ok", "failed"]
    assert table["detail"].tolist() == ["", "the engine gave up"]
    assert table["score"].isna().tolist() == [False, True]


def test_pandas_writes_it_and_reads_it_back(folders):
    table = load_scores(*folders)
    again = pandas.read_csv(io.StringIO(table.to_csv(index=False)), keep_default_na=False, na_values={"score": [""]})
    assert again["score"].tolist()[0] == 0.5
    assert again["prompt"].tolist() == table["prompt"].tolist()
    assert again["seed"].tolist() == table["seed"].tolist()


def test_a_folder_without_scores_is_refused(folders, tmp_path):
    with pytest.raises(UsageError, match="dgpo eval"):
        load_scores(folders[0], tmp_path)
