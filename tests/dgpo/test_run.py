import hashlib
import json
import math
import multiprocessing
import shutil
from pathlib import Path

import pytest
import yaml

from dgpo.config import check_config, place
from dgpo.run import FREE, Run, find_checkpoint, read_config, read_facts
from rewards.errors import UsageError

OLDER = Path(__file__).parents[1] / "golden" / "folders" / "version-1" / "training"
STAMP = {"schema": 2, "kind": "training"}


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
    names = ("trainer.json", "trainer.safetensors", "weights.safetensors")
    for name in names:
        (folder / name).write_text(name)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps(hashes))
    return folder


def harm(folder):
    (folder / "trainer.json").unlink()


def do_work(run, step=1):
    """An iteration with its checkpoint, so that the folder holds something."""
    run.record({"step": step, "reward": 0.5})
    return make_checkpoint(run, step)


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

    def test_empties_no_file_that_the_lock_is_a_link_to(self, run, tmp_path):
        precious = tmp_path / "precious"
        precious.write_text("mine")
        (run.folder / ".lock").symlink_to(precious)
        run.refuse_busy()
        assert precious.read_text() == "mine"

    def test_makes_the_folder(self, tmp_path):
        with Run(tmp_path / "a" / "b").lock():
            assert (tmp_path / "a" / "b").is_dir()


class TestBegin:
    def test_first_time_and_again(self, run):
        assert run.begin(config(), {"machine": "mine"}, fresh=False) is False
        assert read_config(run.folder) == config()
        assert json.loads((run.folder / "run.json").read_text()) == {"machine": "mine", **STAMP}
        do_work(run)
        assert run.begin(config(), {"machine": "other"}, fresh=False) is True
        assert json.loads((run.folder / "run.json").read_text()) == {"machine": "other", **STAMP}

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 1},
            {"groups": 4},
            {"rewards": ["imagestats.edges"]},
            {"dgpo__beta": 7},
            {"sampling__steps": 3},
            {"optimizer__micro_batch": 2},
            {"model": "elsewhere"},
        ],
    )
    def test_another_run_is_refused_and_left_alone(self, run, changes):
        run.begin(config(), {}, fresh=False)
        do_work(run)
        with pytest.raises(UsageError, match=r"holds another run.*--fresh") as told:
            run.begin(config(**changes), {}, fresh=False)
        (name,) = changes
        assert f"run: {name.replace('__', '.')} is " in str(told.value)
        assert str(told.value).count(" there and ") == 1
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
            data="/prompts",
        )
        assert {
            name for name in type(changed).model_fields if getattr(changed, name) != getattr(config(), name)
        } == set(FREE)
        do_work(run)
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

    def test_fresh_deletes_a_link_and_not_what_it_leads_to(self, run, tmp_path):
        run.begin(config(), {}, fresh=False)
        run.record({"step": 1})
        elsewhere = run.checkpoints.rename(tmp_path / "elsewhere")
        run.checkpoints.symlink_to(elsewhere)
        make_checkpoint(run, 1)
        precious = tmp_path / "precious"
        precious.write_text("mine")
        (run.folder / "curve.png").symlink_to(precious)
        notes = []
        assert run.begin(config(seed=1), {}, fresh=True, on_note=notes.append) is False
        assert list(run.checkpoints.iterdir()) == []
        assert not run.checkpoints.is_symlink()
        assert (elsewhere / "step-000001").is_dir()
        assert precious.read_text() == "mine"
        assert [note.partition(" was a link to ")[0] for note in notes] == [
            str(run.folder / name) for name in ("checkpoints", "curve.png")
        ]

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
        for text in (b"steps: [1", b"", b"- 1\n", b"\x89PNG\xff\xfe\x00"):
            (run.folder / "config.yaml").write_bytes(text)
            with pytest.raises(UsageError, match=r"config\.yaml"):
                run.begin(config(), {}, fresh=False)

    def test_config_is_yaml_that_people_can_read(self, run):
        run.begin(config(), {}, fresh=False)
        assert yaml.safe_load((run.folder / "config.yaml").read_text())["dgpo"]["beta"] == 100

    @pytest.mark.parametrize("text", [b"\x89PNG\xff", b"", b"[1]", b'{"contents": 3}', b"[" * 100_000])
    def test_damaged_record_is_said_and_an_empty_one_goes_on(self, run, text):
        run.begin(config(), {}, fresh=False)
        do_work(run)
        (run.folder / "run.json").write_bytes(text)
        with pytest.raises(UsageError, match=r"run\.json is damaged.*write {} into it"):
            run.begin(config(), {}, fresh=False)
        (run.folder / "run.json").write_text("{}")
        assert run.begin(config(), {}, fresh=False) is True


class TestContents:
    FIRST = {"model": "a", "prompts": "b", "weights": {"ocr@1": "c", "clip@1": "d"}}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"model": "x"}, r"the base model had other contents \(a then, x now\)"),
            ({"prompts": "x"}, "the training prompts had other contents"),
            ({"weights": {"ocr@1": "x", "clip@1": "d"}}, "the reward weights of ocr@1 had other contents"),
        ],
    )
    def test_what_was_replaced_in_its_place_is_refused(self, run, changes, told):
        run.begin(config(), {"contents": self.FIRST}, fresh=False)
        do_work(run)
        with pytest.raises(UsageError, match=rf"{told}.*--fresh"):
            run.begin(config(), {"contents": {**self.FIRST, **changes}}, fresh=False)
        assert json.loads((run.folder / "run.json").read_text()) == {"contents": self.FIRST, **STAMP}

    def test_what_has_moved_is_the_same(self, run):
        run.begin(config(model="/here", prompts="/here.txt", weights=["ocr=/a"]), {"contents": self.FIRST}, fresh=False)
        do_work(run)
        moved = config(model="/there", prompts="/there.txt", weights=["ocr=/b"])
        run.refuse_other(moved, {"prompts": "b"}, fresh=False)  # the model is not known yet
        assert run.begin(moved, {"contents": self.FIRST}, fresh=False) is True
        assert read_config(run.folder).model == "/there"

    def test_what_was_never_recorded_is_said_once_and_recorded(self, run):
        run.begin(config(), {}, fresh=False)
        do_work(run)
        with pytest.raises(UsageError, match="model is 'tiny' there"):
            run.begin(config(model="/other"), {"contents": self.FIRST}, fresh=False)
        notes = []
        for _ in range(2):
            run.begin(config(), {"contents": self.FIRST}, fresh=False, on_note=notes.append)
        (note,) = notes
        assert "does not record the contents of the base model, the training prompts, the reward weights" in note


class TestPrecision:
    """What is left to the program is as the run began; what is asked for has to be that."""

    def test_nothing_is_settled_before_something_was_made(self, run):
        assert run.precision == "auto"
        run.begin(config(training__dtype="bf16"), {}, fresh=False)
        assert run.precision == "auto"
        do_work(run)
        assert run.precision == "bf16"

    def test_only_another_one_that_is_asked_for_is_refused(self, run):
        run.begin(config(training__dtype="bf16"), {}, fresh=False)
        do_work(run)
        run.refuse_other(config(training__dtype="auto"), {}, fresh=False)
        assert run.begin(config(training__dtype="bf16"), {}, fresh=False) is True
        with pytest.raises(UsageError, match=r"training\.dtype is 'bf16' there and 'fp32' here"):
            run.begin(config(training__dtype="fp32"), {}, fresh=False)


class TestClaim:
    def test_a_start_that_made_nothing_leaves_the_folder_free(self, run):
        run.begin(config(), {}, fresh=False)
        run.record({"step": 0, "evaluation": {}})
        (run.folder / "canaries").mkdir()
        assert run.begin(config(seed=1), {}, fresh=False) is False
        assert read_config(run.folder).seed == 1
        assert sorted(path.name for path in run.folder.iterdir()) == ["checkpoints", "config.yaml", "run.json"]

    def test_the_same_start_again_finds_what_it_made_for_step_0(self, run):
        run.begin(config(), {}, fresh=False)
        run.record({"step": 0, "evaluation": {}})
        (run.folder / "evaluations").mkdir()
        assert run.begin(config(steps=99), {}, fresh=False) is False
        assert (run.folder / "evaluations").is_dir()
        assert run.read_metrics() == []  # that look is taken again

    def test_killed_before_its_first_checkpoint_it_begins_again_and_keeps_what_it_measured(self, run):
        run.begin(config(steps=10, checkpoint__every=3), {}, fresh=False)
        for step in (1, 2):
            run.record({"step": step})
        with pytest.raises(UsageError, match="seed is 0 there and 1 here"):
            run.begin(config(steps=10, checkpoint__every=3, seed=1), {}, fresh=False)
        notes = []
        assert run.begin(config(steps=10, checkpoint__every=3), {}, fresh=False, on_note=notes.append) is False
        assert "its 2 iterations are made again" in notes[0]
        assert (run.folder / "metrics.before-1.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
        assert run.read_metrics() == []

    def test_never_goes_on_from_lost_checkpoints(self, run):
        run.begin(config(checkpoint__every=2), {}, fresh=False)
        folder = do_work(run, 3)
        before = run.metrics.read_bytes()
        shutil.rmtree(folder)
        with pytest.raises(UsageError, match=r"it has trained 3 iterations.*none of its checkpoints is there any more"):
            run.begin(config(checkpoint__every=2), {}, fresh=False)
        run.checkpoints.rmdir()
        with pytest.raises(UsageError, match=r"Put a checkpoint back.*--fresh"):
            run.begin(config(steps=99), {}, fresh=False)
        assert run.metrics.read_bytes() == before
        assert run.begin(config(), {}, fresh=True) is False


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
        assert run.cut_metrics(5) == []
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
        good = make_checkpoint(run, 2)
        for _ in range(2):
            harm(make_checkpoint(run, 4))
            path, notes = run.last_checkpoint()
            assert path == good
            assert len(notes) == 1

    def test_when_all_are_damaged_nothing_is_continued(self, run):
        run.begin(config(), {}, fresh=False)
        harm(do_work(run))
        with pytest.raises(UsageError, match=r"none of its checkpoints can be used.*trainer\.json is missing.*--fresh"):
            run.last_checkpoint()
        with pytest.raises(UsageError, match="Put a checkpoint back"):
            run.begin(config(), {}, fresh=False)
        assert [line["step"] for line in run.read_metrics()] == [1]

    def test_a_copy_is_no_checkpoint(self, run):
        for name in ("step-000003.bak", "step-3", "step-0000003", "step-000003 (copy)", "step-000003~"):
            shutil.copytree(make_checkpoint(run, 2), run.checkpoints / name)
            assert run.last_checkpoint()[0] == find_checkpoint(run.folder, None) == run.checkpoints / "step-000002"
            shutil.rmtree(run.checkpoints)

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


class TestOlderVersions:
    """A folder that version 0.1.0 wrote (`dgpo train`), but for its checkpoints and pictures."""

    @pytest.fixture
    def old(self, tmp_path):
        run = Run(Path(shutil.copytree(OLDER, tmp_path / "old")))
        make_checkpoint(run, 1)
        return run

    def test_its_settings_and_facts_are_read_under_the_names_of_now(self, old):
        assert "objective:" in (old.folder / "config.yaml").read_text()
        read = read_config(old.folder).model_dump()
        assert (read["dgpo"]["beta"], read["dgpo"]["old_decay"]) == (7, 0.5)
        facts = read_facts(old.folder)
        assert (facts["schema"], facts["kind"], facts["dgpo"]) == (2, "training", "0.1.0")
        assert set(facts["contents"]) == {"model", "prompts", "weights"}

    def test_it_goes_on_and_is_of_the_present_version_then(self, old):
        before = read_facts(old.folder)
        longer = read_config(old.folder).model_copy(update={"steps": 9})
        assert old.begin(longer, before, fresh=False) is True
        assert "objective:" not in (old.folder / "config.yaml").read_text()
        assert json.loads((old.folder / "run.json").read_text()) == before

    def test_another_run_is_still_another(self, old):
        values = read_config(old.folder).model_dump(mode="json")
        place(values, ["dgpo", "beta"], 8)
        with pytest.raises(UsageError, match=r"dgpo\.beta is 7(\.0)? there and 8(\.0)? here"):
            old.begin(check_config(values, "the test"), {}, fresh=False)

    def test_a_newer_version_is_refused_and_left_as_it_is(self, old):
        (old.folder / "run.json").write_text('{"schema": 3, "kind": "training", "dgpo": "0.9"}')
        with pytest.raises(UsageError, match=r"newer version of dgpo: it has schema 3, .* wrote it \(0\.9\)\."):
            old.begin(read_config(old.folder), {}, fresh=False)
        assert json.loads((old.folder / "run.json").read_text())["schema"] == 3
