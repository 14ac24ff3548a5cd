"""`dgpo score --engine ray` on real Ray clusters of this machine: the file is the one that no cluster writes."""

import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.harness.draft import Draft
from benchmarks.harness.listing import list_images
from benchmarks.harness.ray_work import check_same
from benchmarks.harness.score import score_images
from benchmarks.harness.score_files import read_scores
from cli.commands import app
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from tests.benchmarks.stored_images import draw, write_everywhere

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/clip_family"
COUNT, TORN, DEADLY = 100, 5, 37
IMAGES = draw(COUNT)
IMAGES[TORN] = IMAGES[TORN][:60]
PROMPTS = [f'a sign that says "word{place % 3}"' for place in range(COUNT)]
FAILS = 5
KEPT_S = 7.0
# One image kills whatever process scores it. Another ends the actor, the parent of that process, so many times.
FRAGILE = f"""
import os, signal
from rewards import Card, Reward, Score


class Fragile(Reward):
    card = Card(
        name="fragile", version=1, unit="pixels", bounds=(0, None), higher_is_better=True, summary="width", alone=True,
        reads_prompt=False,
    )

    def score(self, images, prompts):
        for image in images:
            if image.width == {8 + DEADLY}:
                os.kill(os.getpid(), signal.SIGKILL)
            if image.width == {8 + COUNT // 2}:
                for number in (1, 2):
                    try:
                        os.close(os.open(f"{{__file__}}.{{number}}", os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        continue
                    os.kill(os.getppid(), signal.SIGKILL)
        return [Score(image.width) for image in images]
"""


MUTE = """
from rewards import Card, Reward
from rewards.errors import SetupError


class Mute(Reward):
    card = Card(name="mute", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="", reads_prompt=False)

    def __init__(self, spec, card):
        raise SetupError("an ear is missing")
"""


@pytest.fixture(scope="module")
def cluster():
    """A cluster of one machine with three cores and, as far as Ray knows, a GPU; commands find it by its address."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        cluster = Cluster(True, head_node_args={"num_cpus": 3, "num_gpus": 1, "include_dashboard": False})
        patch.setenv("RAY_ADDRESS", str(cluster.address))
        yield cluster
        cluster.shutdown()


@pytest.fixture
def score(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def score(*words, code=0):
        done = CliRunner().invoke(app, ["score", *map(str, words)])
        assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
        return done

    return score


@pytest.fixture
def sources(tmp_path):
    root = write_everywhere(tmp_path / "pictures", IMAGES, PROMPTS)
    return [root / "folder/pictures", root / "table/pictures", root / "tar/pictures"]


def without_seconds(data):
    """The bytes of a CSV file, with the time of each row blotted out."""
    return re.sub(rb"[^,]*\n", b"SECONDS\n", data if isinstance(data, bytes) else Path(data).read_bytes())


def images(sources):
    return [word for source in sources for word in ("--images", source)]


def begin_locally(output, sources):
    """The draft of a local command that was ended after its first batch, whose rows tell a time of their own."""
    with ScoringPool(parse_rewards(["imagestats"]), 0) as pool, Draft(output, pool.facts()) as draft:
        first, *_ = score_images(list_images(sources), pool)
        kept = [replace(row, seconds=KEPT_S) for row in first]
        draft.add(kept)
    return kept


def test_a_cluster_of_its_own_goes_on_to_the_file_of_the_local_engine_and_leaves_nothing(
    program, score, sources, tmp_path
):
    lost = tmp_path / "pictures/gone.png"
    words = ["--reward", "imagestats", *images(sources), lost, "--workers", "2"]
    score(*words, "--output", "local.csv", code=FAILS)
    kept = begin_locally(Path("ray.csv"), sources)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        words = [*map(str, words), "--output", "ray.csv", "--engine", "ray"]
        done = program("score", *words, RAY_ADDRESS="", RAY_TMPDIR=folder)
        assert done.returncode == FAILS, done.stderr
        assert os.listdir(folder) == []
    assert without_seconds("ray.csv") == without_seconds("local.csv")
    assert f"ray.csv.draft: {len(kept)} scores are there" in done.stderr
    assert [row for row in read_scores(Path("ray.csv")) if row.seconds == KEPT_S] == [
        row for row in kept if row.settled
    ]
    assert f"{3 * COUNT + 1}/{3 * COUNT + 1} images, in" in done.stderr
    assert "2 actors of 1 core for imagestats.dark@1" in done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith(("dgpo: ", "score "))]


def test_lost_actors_cost_no_row_and_a_deadly_image_only_itself(cluster, score, sources, tmp_path):
    reward = tmp_path / "fragile.py"
    reward.write_text(FRAGILE)
    words = ["--reward", f"{reward}:Fragile", "--reward", "imagestats.dark", *images(sources[2:]), "--workers", "2"]
    told = score(*words, "--output", "ray.csv", "--engine", "ray", code=FAILS).stderr
    assert (tmp_path / "fragile.py.2").exists()
    assert "Ray has lost an actor and started another" in told
    score(*words, "--output", "local.csv", code=FAILS)
    assert without_seconds("ray.csv") == without_seconds("local.csv")
    failed = [row for row in read_scores(tmp_path / "ray.csv") if row.score is None]
    assert [row.image.rpartition("#")[2] for row in failed] == [f"{TORN:03d}.png"] * 2 + [f"{DEADLY:03d}.png"]
    assert failed[2].deadly


@pytest.mark.slow
def test_shard_by_shard_and_in_order_on_stdout(cluster, score, sources):
    words = ["--reward", "imagestats", *images(sources[1:2])]
    ray = ["--engine", "ray", "--workers", "2"]
    score(*words, *ray, "--shard", "1/2", "--output", "s-1.parquet", code=FAILS)
    score(*words, "--shard", "2/2", "--output", "s-2.csv")
    score(*words, "--output", "whole.csv", code=FAILS)
    assert CliRunner().invoke(app, ["merge", "s-1.parquet", "s-2.csv", "--output", "merged.csv"]).exit_code == 0
    assert without_seconds("merged.csv") == without_seconds("whole.csv")
    told = score(*words, *ray, code=FAILS)
    assert without_seconds(told.stdout.encode()) == without_seconds("whole.csv")


@pytest.mark.slow
def test_rewards_on_gpus_have_actors_of_their_own_behind_tasks_that_decode(cluster, score, tmp_path):
    """Ray believes in a GPU, and the network that asks for one finds none and computes on the CPU: as it does here."""
    text = "a photo"
    rewards = ["aesthetic", "imagestats", "pickscore"]
    words = [word for name in rewards for word in ("--reward", name)]
    words += [
        "--weights",
        f"aesthetic={GOLDEN}/aesthetic",
        "--weights",
        f"pickscore={os.path.relpath(GOLDEN)}/pickscore",
    ]
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(10):
        for path in (GOLDEN / "images").iterdir():
            (folder / f"{number}-{path.name}").write_bytes(path.read_bytes())
    words += ["--images", folder, "--prompt", text]
    told = score(*words, "--engine", "ray", "--workers", "1", "--output", "ray.csv").stderr
    assert (
        "1 actor of 1 core and a GPU for aesthetic@1, pickscore@1 and 1 actor of 1 core for imagestats.dark@1" in told
    )
    score(*words, "--output", "local.csv")
    assert without_seconds("ray.csv") == without_seconds("local.csv")


@pytest.mark.slow
def test_a_lost_machine_costs_no_row(cluster, score, sources, tmp_path):
    reward = tmp_path / "slow.py"
    reward.write_text(FRAGILE.replace("for image in images:", "import time; time.sleep(0.3)\n        for image in ():"))
    node = cluster.add_node(num_cpus=2)
    words = ["--reward", f"{reward}:Fragile", *images(sources), "--workers", "3"]

    def lose():
        while not list(tmp_path.glob("ray.csv.draft/scores.csv")):
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)

    with ThreadPoolExecutor(1) as beside:
        lost = beside.submit(lose)
        score(*words, "--engine", "ray", "--output", "ray.csv", code=FAILS)
        lost.result()
    score(*words, "--output", "local.csv", code=FAILS)
    assert without_seconds("ray.csv") == without_seconds("local.csv")


class TestRefused:
    def test_without_ray_the_command_that_installs_it_is_named(self, score, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "ray", None)
        told = score("--reward", "imagestats", self.image(tmp_path), "--engine", "ray", code=3).stderr
        assert "ray, which is not installed: pip install 'dgpo[ray]'" in told

    def test_scoring_in_this_process(self, score, tmp_path):
        told = score("--reward", "imagestats", self.image(tmp_path), "--engine", "ray", "--workers", "0", code=2).stderr
        assert "--engine ray scores in actors" in told

    def test_an_address_of_rays_client(self, score, monkeypatch, tmp_path):
        monkeypatch.setenv("RAY_ADDRESS", "ray://host:10001")
        told = score("--reward", "imagestats", self.image(tmp_path), "--engine", "ray", code=2).stderr
        assert "RAY_ADDRESS=ray://host:10001 is for Ray's client" in told

    def test_a_cluster_that_does_not_answer(self, score, monkeypatch, tmp_path):
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        told = score("--reward", "imagestats", self.image(tmp_path), "--engine", "ray", code=3).stderr
        assert "The Ray cluster that RAY_ADDRESS=127.0.0.1:1 names does not answer" in told
        assert "refused" in told

    def test_a_reward_that_cannot_be_built_on_the_cluster(self, cluster, score, tmp_path):
        (tmp_path / "mute.py").write_text(MUTE)
        words = ["--reward", "mute.py:Mute", self.image(tmp_path)]
        local, ray = (score(*words, "--engine", engine, code=3).stderr for engine in ("local", "ray"))
        assert "an ear is missing" in local
        assert ray.splitlines()[1:] == local.splitlines()

    def test_a_machine_with_another_reward_is_named(self):
        with pytest.raises(SetupError, match=r"On .* the reward a@1 is another .*\(weights '2' in place of '1'\)"):
            check_same({"a@1": {"engine": "e", "weights": "2"}}, {"a@1": {"engine": "e", "weights": "1"}, "b@1": {}})

    def test_more_actors_than_the_cluster_has_cores(self, cluster, score, tmp_path):
        told = score("--reward", "imagestats", self.image(tmp_path), "--engine", "ray", "--workers", "4", code=2).stderr
        assert "--workers 4 takes 4 cores" in told
        assert "has 3; give fewer --workers" in told

    def image(self, tmp_path):
        path = tmp_path / "one.png"
        path.write_bytes(IMAGES[0])
        return path
