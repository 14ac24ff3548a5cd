import json
import math
import multiprocessing

import pytest
import yaml

from dgpo.config import check_config, place
from dgpo.run import FREE, Run, find_checkpoint, read_config
from rewards.errors import UsageError


def config(**changes):
    values = {"rewards": ["ocr"], "steps": 10}
    for name, value in changes.items():
        place(values, name.split("__"), value)
    return check_config(values, "the test")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return Run(folder)


def make_checkpoint(run, step):
    folder = run.checkpoints / f"step-{step:06d}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def harm(folder):
    (folder / "manifest.json").write_text('{"trainer.json": "0"}')


def try_lock(folder, answers):
    try:
        with Run(folder).lock():
            answers.put("locked")
    except UsageError as error:
        answers.put(str(error))


def ask_other_process(folder):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=try_lock, args=(folder, answers))
    process.start()
    answer = answers.get(timeout=60)
    process.join()
    return answer


class TestLock:
    def test_keeps_a_second_process_out_and_lets_it_in_afterwards(self, run):
        with run.lock():
            assert "Another process is training" in ask_other_process(run.folder)
        assert ask_other_process(run.folder) == "locked"

    def test_makes_the_folder(self, tmp_path):
        with Run(tmp_path / "a" / "b").lock():
            assert (tmp_path / "a" / "b").is_dir()


class TestBegin:
    def test_first_time_and_again(self, run):
        assert run.begin(config(), {"machine": "mine"}, fresh=False) is False
        assert read_config(run.folder) == config()
        assert json.loads((run.folder / "run.json").read_text()) == {"machine": "mine"}
        assert run.begin(config(), {"machine": "other"}, fresh=False) is True
        assert json.loads((run.folder / "run.json").read_text()) == {"machine": "other"}

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 1},
            {"groups": 4},
            {"rewards": ["imagestats.edges"]},
            {"objective__beta": 7},
            {"sampling__steps": 3},
            {"optimizer__micro_batch": 2},
            {"model": "elsewhere"},
        ],
    )
    def test_another_run_is_refused_and_left_alone(self, run, changes):
        run.begin(config(), {}, fresh=False)
        with pytest.raises(UsageError, match=r"holds another run.*--fresh"):
            run.begin(config(**changes), {}, fresh=False)
        assert read_config(run.folder) == config()

    def test_free_settings_may_change(self, run):
        run.begin(config(), {}, fresh=False)
        changed = config(
            steps=99,
            workers=3,
            max_failed=4,
            evaluation__every=5,
            watch__canaries=0,
            checkpoint__every=1,
            samples__every=2,
        )
        assert {
            name for name in type(changed).model_fields if getattr(changed, name) != getattr(config(), name)
        } == set(FREE)
        assert run.begin(changed, {}, fresh=False) is True
        assert read_config(run.folder) == changed

    def test_fresh_deletes_the_run_and_nothing_else(self, run):
        run.begin(config(), {}, fresh=False)
        make_checkpoint(run, 1)
        run.record({"step": 1})
        (run.folder / "notes.txt").write_text("mine")
        assert run.begin(config(seed=1), {}, fresh=True) is False
        assert list(run.checkpoints.iterdir()) == []
        assert run.read_metrics() == []
        assert (run.folder / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("fresh", [False, True])
    @pytest.mark.parametrize("also", [None, "config.yaml"])
    def test_folder_that_is_no_run_is_refused_even_fresh(self, run, fresh, also):
        """Somebody's project may have a config.yaml and a folder `checkpoints`, too."""
        (run.folder / "checkpoints").mkdir()
        (run.folder / "checkpoints" / "theirs.pt").write_text("years of work")
        if also:
            (run.folder / also).write_text("a: 1\n")
        with pytest.raises(UsageError, match="holds no run"):
            run.begin(config(), {}, fresh=fresh)
        assert (run.folder / "checkpoints" / "theirs.pt").exists()

    def test_killed_before_the_config_was_written_is_a_new_start(self, run):
        (run.folder / "run.json").write_text("{}")
        (run.folder / ".config.yaml.partial").write_text("mod")
        assert run.begin(config(), {}, fresh=False) is False

    def test_unreadable_config_is_said(self, run):
        run.begin(config(), {}, fresh=False)
        for text in ("steps: [1", "", "- 1\n"):
            (run.folder / "config.yaml").write_text(text)
            with pytest.raises(UsageError, match=r"config\.yaml"):
                run.begin(config(), {}, fresh=False)

    def test_config_is_yaml_that_people_can_read(self, run):
        run.begin(config(), {}, fresh=False)
        assert yaml.safe_load((run.folder / "config.yaml").read_text())["objective"]["beta"] == 100


class TestMetrics:
    def test_are_cut_on_resume(self, run):
        for step in range(1, 6):
            run.record({"step": step, "reward": step / 10})
        run.cut_metrics(3)
        assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
        run.record({"step": 4})
        assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4]

    def test_half_written_last_line_is_dropped(self, run):
        run.record({"step": 1})
        with run.metrics.open("a") as file:
            file.write('{"step": 2, "rew')
        assert [line["step"] for line in run.read_metrics()] == [1]
        run.cut_metrics(2)
        run.record({"step": 2})
        assert [line["step"] for line in run.read_metrics()] == [1, 2]

    def test_none_yet(self, run):
        run.cut_metrics(5)
        assert run.read_metrics() == []


class TestCheckpoints:
    def test_damaged_ones_are_passed_over_and_set_aside(self, run):
        good, *bad = (make_checkpoint(run, step) for step in (2, 4, 6))
        for folder in bad:
            harm(folder)
        path, notes = run.last_checkpoint()
        assert path == good
        assert [("step-000006" in note, "trainer.json is missing" in note) for note in notes] == [
            (True, True),
            (False, True),
        ]
        assert run.last_checkpoint() == (good, [])
        assert sorted(folder.name for folder in run.checkpoints.iterdir())[:2] == [
            "damaged-step-000004",
            "damaged-step-000006",
        ]

    def test_the_same_step_may_be_damaged_twice(self, run):
        for _ in range(2):
            harm(make_checkpoint(run, 4))
            path, notes = run.last_checkpoint()
            assert path is None
            assert len(notes) == 1

    def test_none(self, run):
        assert run.last_checkpoint() == (None, [])
        with pytest.raises(UsageError, match="no checkpoint yet"):
            find_checkpoint(run.folder, None)

    def test_found_by_step(self, run):
        first, last = make_checkpoint(run, 2), make_checkpoint(run, 40)
        assert find_checkpoint(run.folder, None) == last
        assert find_checkpoint(run.folder, 2) == first
        with pytest.raises(UsageError, match="it has 2, 40"):
            find_checkpoint(run.folder, 3)
        harm(last)
        with pytest.raises(UsageError, match=r"trainer\.json is missing.*@STEP"):
            find_checkpoint(run.folder, None)

    def test_no_run_folder(self, run):
        with pytest.raises(UsageError, match="no run folder"):
            read_config(run.folder)


def test_numbers_that_do_not_exist_are_null(tmp_path):
    """NaN is no JSON, and readers other than Python's refuse it."""
    run = Run(tmp_path)
    line = {"step": 1, "reward": math.nan, "rewards": {"a": 0.5}, "parts": [math.inf, {"b": -math.inf}], "name": "NaN"}
    run.record(line)
    expected = {"step": 1, "reward": None, "rewards": {"a": 0.5}, "parts": [None, {"b": None}], "name": "NaN"}

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(run.metrics.read_text(), parse_constant=refuse) == expected
    run.metrics.write_text('{"step": 1, "reward": NaN}\n')  # as an earlier release wrote it
    run.cut_metrics(1)
    assert json.loads(run.metrics.read_text(), parse_constant=refuse) == {"step": 1, "reward": None}
