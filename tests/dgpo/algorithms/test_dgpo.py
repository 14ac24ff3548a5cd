import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dgpo.algorithms.algorithm import Geometry
from dgpo.algorithms.dgpo import DGPO, choose_times
from dgpo.batch import Batch
from dgpo.parallel import Ranks
from dgpo.paths import RectifiedFlow
from dgpo.schedule import build_schedule
from rewards.errors import UsageError
from rewards.prompt import Prompt
from tests.dgpo.training import PROMPTS, brightness, small_config, stir, train

TABLE = build_schedule("dpm++", {"num_train_timesteps": 1000, "shift": 3.0}, 10).times
velocity_error = RectifiedFlow().error


def draw_batch(policy, config, *, images=None, zeros=False):
    """Groups of random latents; `images` are the numbers that this rank has."""
    image_B = torch.arange(config.images) if images is None else torch.tensor(images, dtype=torch.int64)
    x0 = torch.randn((config.images, 8, 8, 16), generator=torch.Generator().manual_seed(5))[image_B]
    prompts = PROMPTS[: config.groups]
    conditioning = policy.model.encode([prompt.text for prompt in prompts])
    return Batch(prompts, config.group_size, image_B, x0 * (not zeros), conditioning, TABLE)


def draw_advantages(config):
    values = torch.randn(config.groups, config.group_size, generator=torch.Generator().manual_seed(6))
    return (values - values.mean(dim=1, keepdim=True)).double()


def build(policy, config):
    geometry = Geometry(config.groups, config.group_size, config.optimizer.micro_batch, config.seed)
    ranks = Ranks(cpu=True)
    return DGPO(config.learning, advantage=config.advantage, geometry=geometry, policy=policy, ranks=ranks)


def times_of(table, config, step):
    return choose_times(table, config.learning, config.seed, step)


def learn(policy, config, groups, advantage, step=0):
    """Gradients and figures of one call."""
    for parameter in policy.parameters:
        parameter.grad = None
    updates = []
    figures = build(policy, config).learn_from(groups, advantage, step, lambda: updates.append(1))
    return {name: p.grad for name, p in policy.trained.items()}, figures, len(updates)


def learn_steps(policy, config, groups, advantage):
    """The gradient that each optimiser step is made of; no step is taken."""
    steps = []
    for parameter in policy.parameters:
        parameter.grad = None

    def update():
        steps.append({name: p.grad for name, p in policy.trained.items()})
        for parameter in policy.parameters:
            parameter.grad = None

    build(policy, config).learn_from(groups, advantage, 0, update)
    return steps


def flat(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def relative_error(actual, expected):
    return ((flat(actual) - flat(expected)).norm() / flat(expected).norm()).item()


@pytest.fixture
def listened(monkeypatch):
    """Everything that the policy is asked: who, x, sigma."""
    asked = []

    def listen(policy):
        velocity = policy.velocity

        def remember(who, x, sigma, conditioning, **options):
            asked.append((who, x.detach().clone(), sigma.clone()))
            return velocity(who, x, sigma, conditioning, **options)

        monkeypatch.setattr(policy, "velocity", remember)
        return asked

    return listen


class TestTimes:
    def test_are_drawn_without_replacement_from_the_table_within_the_clip(self, model_folder):
        config = small_config(model_folder, {"dgpo.times": 4, "dgpo.min_sigma": 0.66})
        seen = set()
        for step in range(60):
            times = times_of(TABLE, config, step)
            assert len(set(times)) == 4
            assert times == times_of(TABLE, config, step)
            seen.update(times)
        assert seen == {time for time in TABLE if time >= 0.66}
        assert len(seen) == 7

    def test_differ_from_iteration_to_iteration_and_from_seed_to_seed(self, model_folder):
        one, other = (small_config(model_folder, {"dgpo.times": 4, "seed": seed}) for seed in (0, 1))
        draws = [tuple(times_of(TABLE, one, step)) for step in range(8)]
        assert len(set(draws)) > 4
        assert draws != [tuple(times_of(TABLE, other, step)) for step in range(8)]

    def test_fewer_within_the_clip_than_asked_for_is_refused(self, model_folder):
        config = small_config(model_folder, {"dgpo.times": 8, "dgpo.min_sigma": 0.66})
        with pytest.raises(UsageError, match=r"dgpo\.times is 8, but the rollout visits 7 times"):
            times_of(TABLE, config, 0)

    def test_are_told_with_the_table_of_the_rollout(self, make_policy):
        policy, config = make_policy({"dgpo.times": 2})
        groups = draw_batch(policy, config)
        told = learn(policy, config, groups, draw_advantages(config))[1]["times"]
        assert told == {"rollout": groups.times, "trained": times_of(groups.times, config, 0)}

    @pytest.mark.parametrize(("one_update", "updates"), [(True, 1), (False, 3)])
    def test_one_update_or_one_a_time(self, make_policy, one_update, updates):
        policy, config = make_policy({"dgpo.times": 3, "dgpo.one_update": one_update})
        assert learn(policy, config, draw_batch(policy, config), draw_advantages(config))[2] == updates


class TestFailedImages:
    @pytest.mark.parametrize("micro_batch", [3, 16])
    def test_teach_as_if_they_were_not_there(self, make_policy, micro_batch):
        """Bit for bit, with KL and clip, and whatever their numbers are; the others of their groups still teach."""
        policy, config = make_policy(
            {"dgpo.kl": 0.1, "dgpo.clip": 0.5, "group_size": 4, "optimizer.micro_batch": micro_batch}
        )
        policy.keep("old")
        stir(policy, 0.05)
        advantage = draw_advantages(config)
        failed = [1, 6]
        advantage.view(-1)[failed] = 0.0
        groups = draw_batch(policy, config)
        groups.x0_BCHW[1], groups.x0_BCHW[6] = math.nan, math.inf
        marked = dataclasses.replace(groups, failed=dict.fromkeys(failed, "not finite"))
        absent = draw_batch(policy, config, images=[i for i in range(config.images) if i not in failed])
        found, told, _ = learn(policy, config, marked, advantage)
        expected, wanted, _ = learn(policy, config, absent, advantage)
        assert told == wanted
        assert flat(found).isfinite().all()
        assert flat(found).norm() > 0
        assert torch.equal(flat(found), flat(expected))


class TestNoise:
    def test_is_shared_within_a_group_and_fresh_for_every_time(self, make_policy, listened):
        policy, config = make_policy({"dgpo.times": 3, "groups": 2, "group_size": 4})
        asked = listened(policy)
        groups = draw_batch(policy, config, zeros=True)
        learn(policy, config, groups, draw_advantages(config))
        noises = [x / sigma.view(-1, 1, 1, 1) for who, x, sigma in asked if who == "current"]
        assert len(noises) == 3
        for noise in noises:
            assert torch.equal(noise[:4], noise[:1].expand(4, -1, -1, -1))
            assert torch.equal(noise[4:], noise[4:5].expand(4, -1, -1, -1))
        kinds = torch.stack([noise[row] for noise in noises for row in (0, 4)])
        distance = torch.cdist(kinds.flatten(1), kinds.flatten(1)) + 1e3 * torch.eye(6)
        assert distance.min() > 10  # 1024 dimensions: independent noises are about 45 apart
        assert kinds.std().item() == pytest.approx(1, abs=0.05)

    def test_current_and_reference_see_the_same(self, make_policy, listened):
        policy, config = make_policy({"dgpo.times": 2, "dgpo.clip": 0.1})
        policy.keep("old")
        asked = listened(policy)
        learn(policy, config, draw_batch(policy, config), draw_advantages(config))
        by_who = {
            who: [(x, sigma) for name, x, sigma in asked if name == who] for who in ("current", "reference", "old")
        }
        for current, reference, old in zip(*by_who.values(), strict=True):
            assert torch.equal(current[0], reference[0])
            assert torch.equal(current[0], old[0])
            assert torch.equal(current[1], reference[1])

    def test_is_the_same_whatever_rank_has_the_image(self, make_policy, listened):
        policy, config = make_policy({"dgpo.times": 1})
        asked = listened(policy)
        learn(policy, config, draw_batch(policy, config, zeros=True), draw_advantages(config))
        learn(policy, config, draw_batch(policy, config, zeros=True, images=[1, 3, 5, 7]), draw_advantages(config))
        whole, share = (x for who, x, _ in asked if who == "current")
        assert torch.equal(whole[1::2], share)


def autograd_of_the_paper(policy, config, groups, advantage):
    """Eq. 17 over beta plus the KL term, at all images together: its gradient at each time, and its mean over times."""
    asked = []
    velocity = policy.velocity

    def remember(who, x, sigma, conditioning, **options):
        if who == "current":
            asked.append((x.detach().clone(), sigma.clone()))
        return velocity(who, x, sigma, conditioning, **options)

    policy.velocity = remember
    learn(policy, config, groups, draw_advantages(config))
    policy.velocity = velocity
    settings, losses = config.dgpo, []
    conditioning = groups.conditioning.take(groups.group_B)
    assert len(asked) == config.dgpo.times
    for x, sigma in asked:
        s = sigma.view(-1, 1, 1, 1)
        noise = (x - (1 - s) * groups.x0_BCHW) / s
        v = velocity("current", x, sigma, conditioning, purpose="current")
        with torch.no_grad():
            inputs = (x, sigma, conditioning)
            reference = velocity("reference", *inputs, guidance=settings.reference_guidance, purpose="reference")
        error, before = (velocity_error(each, groups.x0_BCHW, noise) for each in (v, reference))
        signed = (advantage.flatten() * (error - before)).view(config.groups, config.group_size)
        margin = settings.beta / config.group_size * signed.sum(dim=1)
        losses.append(F.softplus(margin).mean() / settings.beta + settings.kl * (v - reference).square().mean())
    gradients = [
        dict(zip(policy.trained, torch.autograd.grad(loss, policy.parameters), strict=True)) for loss in losses
    ]
    return gradients, sum(loss.item() for loss in losses) / len(losses)


def mean_of(gradients):
    return {name: torch.stack([each[name] for each in gradients]).mean(dim=0) for name in gradients[0]}


class TestGradient:
    @pytest.mark.parametrize("kl", [0.0, 5.0])
    @pytest.mark.parametrize("guidance", [1.0, 3.0])
    def test_is_autograd_of_the_paper_and_the_kl_term(self, make_policy, kl, guidance):
        changes = {"dgpo.kl": kl, "dgpo.reference_guidance": guidance, "dgpo.beta": 300.0}
        policy, config = make_policy(changes)
        stir(policy, 0.1)
        groups, advantage = draw_batch(policy, config), draw_advantages(config)
        expected, loss = autograd_of_the_paper(policy, config, groups, advantage)
        gradients, figures, _ = learn(policy, config, groups, advantage)
        assert relative_error(gradients, mean_of(expected)) < 1e-4
        assert figures["loss"] + kl * figures["kl"] == pytest.approx(loss, rel=1e-4)
        assert figures["kl"] > 0

    @pytest.mark.parametrize("one_update", [True, False])
    def test_every_step_is_made_of_one_whole_gradient(self, make_policy, one_update):
        """The mean over the times, or that of one time: never a share of it."""
        policy, config = make_policy({"dgpo.kl": 1.0, "dgpo.times": 3, "dgpo.one_update": one_update})
        stir(policy, 0.1)
        groups, advantage = draw_batch(policy, config), draw_advantages(config)
        by_time, _ = autograd_of_the_paper(policy, config, groups, advantage)
        expected = [mean_of(by_time)] if one_update else by_time
        steps = learn_steps(policy, config, groups, advantage)
        assert [relative_error(*pair) < 1e-4 for pair in zip(steps, expected, strict=True)] == [True] * len(expected)

    def test_kl_matters(self, make_policy):
        """Guards the test above: at this weight the KL term is no rounding error."""
        gradients = []
        for kl in (0.0, 5.0):
            policy, config = make_policy({"dgpo.kl": kl, "dgpo.beta": 300.0})
            stir(policy, 0.1)
            gradients.append(learn(policy, config, draw_batch(policy, config), draw_advantages(config))[0])
        assert relative_error(gradients[1], gradients[0]) > 0.1

    @pytest.mark.parametrize("micro_batch", [1, 2, 3, 4])
    def test_does_not_depend_on_the_micro_batch(self, make_policy, micro_batch):
        """1 to 3 images: a group is larger than a micro-batch, so its errors are taken first, without gradient.

        The margin is beta times a small difference of errors; a beta of 30 keeps its rounding far below the tolerance.
        """
        results = []
        for size in (8, micro_batch):
            policy, config = make_policy({"optimizer.micro_batch": size, "dgpo.kl": 0.1, "dgpo.beta": 30.0})
            stir(policy, 0.1)
            results.append(learn(policy, config, draw_batch(policy, config), draw_advantages(config)))
            policy.passes.clear()
        (one, one_figures, _), (other, other_figures, _) = results
        assert relative_error(other, one) < 1e-5
        assert other_figures.pop("times") == one_figures.pop("times")
        assert other_figures == pytest.approx(one_figures, rel=1e-5)

    def test_reported_loss_does_not_depend_on_how_groups_are_cut(self, make_policy):
        """Three groups, two at a time and one at a time: the mean over groups, not over cuts."""
        losses = []
        for size in (12, 8, 4):
            policy, config = make_policy({"optimizer.micro_batch": size, "groups": 3, "dgpo.beta": 1e4})
            stir(policy, 0.1)
            losses.append(learn(policy, config, draw_batch(policy, config), draw_advantages(config))[1]["loss"])
        assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-4)

    def test_two_pass_path_is_paid_for_with_one_more_forward(self, make_policy):
        policy, config = make_policy({"optimizer.micro_batch": 2, "dgpo.times": 1})
        learn(policy, config, draw_batch(policy, config), draw_advantages(config))
        assert dict(policy.passes) == {"reference": 8, "current": 16, "backward": 8}

    def test_skipping_dead_groups_is_exact_without_kl(self, make_policy):
        """The dead group's images, given weight 0 and run all the same, change nothing."""
        policy, config = make_policy()
        stir(policy, 0.1)
        groups, advantage = draw_batch(policy, config), draw_advantages(config)
        advantage[1] = 0.0
        skipped = learn(policy, config, groups, advantage)[0]
        assert policy.passes["current"] == config.dgpo.times * 4
        expected = autograd_of_the_paper(policy, config, groups, advantage)[0]
        assert relative_error(skipped, mean_of(expected)) < 1e-4

    def test_image_without_advantage_in_a_live_group_changes_nothing(self, make_policy):
        policy, config = make_policy()
        stir(policy, 0.1)
        advantage = draw_advantages(config)
        advantage[0, 2] = 0.0
        groups = draw_batch(policy, config)
        before = learn(policy, config, groups, advantage)[0]
        groups.x0_BCHW[2] += 3.0
        assert relative_error(learn(policy, config, groups, advantage)[0], before) < 1e-6

    def test_nothing_to_learn_from_makes_no_passes(self, make_policy):
        policy, config = make_policy({"dgpo.kl": 0.1})
        gradients, figures, updates = learn(policy, config, draw_batch(policy, config), torch.zeros(2, 4))
        assert set(gradients.values()) == {None}
        assert not policy.passes
        assert figures["kl"] == 0
        assert updates == 0

    def test_rank_without_an_image_of_the_group_takes_part(self, make_policy):
        """Two groups, one at a time; this rank holds images of the second only."""
        policy, config = make_policy({"optimizer.micro_batch": 4, "dgpo.times": 1, "dgpo.clip": 0.1})
        policy.keep("old")
        stir(policy, 0.1)
        share = learn(policy, config, draw_batch(policy, config, images=[4, 6]), draw_advantages(config))[0]
        assert flat(share).norm() > 0
        assert policy.passes["current"] == 2

    def test_clipped_images_have_no_gradient(self, make_policy, listened):
        """As if their advantage were 0; at this beta every margin is 0, so leaving them out moves no other weight."""
        changes = {"dgpo.clip": 1e-3, "dgpo.beta": 1e-9, "dgpo.times": 1}
        policy, config = make_policy(changes)
        policy.keep("old")
        stir(policy, 0.2)
        asked = listened(policy)
        groups, advantage = draw_batch(policy, config), draw_advantages(config)
        gradients, figures, _ = learn(policy, config, groups, advantage)
        ((x, sigma),) = [(x, sigma) for who, x, sigma in asked if who == "current"]
        noise = (x - (1 - sigma[0]) * groups.x0_BCHW) / sigma[0]
        rows = groups.conditioning.take(groups.group_B)
        with torch.no_grad():
            velocities = [policy.velocity(who, x, sigma, rows, purpose="current") for who in ("current", "old")]
        error, old = (velocity_error(velocity, groups.x0_BCHW, noise) for velocity in velocities)
        ratio = torch.exp(old - error)
        clipped = torch.where(advantage.flatten() > 0, ratio > 1.001, ratio < 0.999)
        assert figures["clipped"] == clipped.double().mean().item()
        assert 0 < clipped.sum() < len(clipped)
        free = small_config(config.model, changes | {"dgpo.clip": None})
        left = advantage * ~clipped.view(advantage.shape)
        assert relative_error(gradients, learn(policy, free, groups, left)[0]) < 1e-4

    def test_bf16_is_near_fp32(self, make_policy):
        gradients = []
        for dtype in ("fp32", "bf16"):
            policy, config = make_policy({"training.dtype": dtype})
            stir(policy, 0.1)
            gradients.append(learn(policy, config, draw_batch(policy, config), draw_advantages(config))[0])
        assert relative_error(gradients[1], gradients[0]) < 0.1

    def test_checkpointing_changes_nothing(self, make_policy):
        gradients = []
        for checkpointing in (False, True):
            policy, config = make_policy({"training.checkpointing": checkpointing})
            stir(policy, 0.1)
            gradients.append(learn(policy, config, draw_batch(policy, config), draw_advantages(config))[0])
        assert relative_error(gradients[1], gradients[0]) < 1e-6

    @pytest.mark.parametrize("reference", ["base", "old"])
    def test_untrained_policy_is_its_reference_to_the_last_bit(self, make_policy, reference):
        """Before the first update nothing has drifted or is clipped, in bf16 too; the smallest preset clip is 1e-5."""
        changes = {"dgpo.clip": 1e-5, "dgpo.reference": reference, "training.dtype": "bf16"}
        policy, config = make_policy(changes)
        policy.keep("old")
        figures = learn(policy, config, draw_batch(policy, config), draw_advantages(config))[1]
        assert figures["kl"] == 0
        assert figures["clipped"] == 0
        assert figures["loss"] == pytest.approx(math.log(2) / config.dgpo.beta, rel=1e-12)


def half_dead(image, prompt: Prompt):
    return 0.5 if prompt == PROMPTS[0] else brightness(image, prompt)


def passes(model_folder, folder, value=brightness, **changes):
    """Transformer passes per image of one whole iteration: 10 rollout steps, 4 times."""
    settings = {"steps": 1, "sampling.steps": 10, "dgpo.times": 4, "group_size": 2, "averages.evaluation_decay": 0.0}
    config = small_config(model_folder, settings | {name.replace("__", "."): v for name, v in changes.items()})
    order = [PROMPTS[0], PROMPTS[1]]
    trainer = train(config, folder, value=value, prompts=order)
    line = copy.copy(trainer.run.read_metrics()[0]["passes"])
    return [line[name] for name in ("rollout", "old", "reference", "current", "backward")]


class Asked(TorchDispatchMode):
    """Counts how often the host asks for numbers that a device has: it then waits for all that it has given out."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.times = 0
        tolist = torch.Tensor.tolist  # on a CPU no operator is called for it

        def asking(tensor):
            self.times += 1
            return tolist(tensor)

        monkeypatch.setattr(torch.Tensor, "tolist", asking)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.times += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


class TestHost:
    def test_asks_no_more_of_the_device_for_more_times_and_smaller_parts(self, make_policy, monkeypatch):
        asked = []
        for times, micro_batch in ((1, 8), (4, 8), (4, 2)):
            policy, config = make_policy({"dgpo.times": times, "optimizer.micro_batch": micro_batch})
            stir(policy, 0.05)
            batch, advantage, learner = draw_batch(policy, config), draw_advantages(config), build(policy, config)
            with monkeypatch.context() as patches, Asked(patches) as counter:
                learner.learn_from(batch, advantage, 0, lambda: None)
            asked.append(counter.times)
            assert policy.passes["backward"] == times * config.images
        assert asked[0] > 0
        assert len(set(asked)) == 1

    def test_names_images_without_a_finite_loss_when_asked(self, make_policy):
        policy, config = make_policy()
        batch, learner = draw_batch(policy, config), build(policy, config)
        batch.x0_BCHW[2] = math.nan
        learner.learn_from(batch, draw_advantages(config), 0, lambda: None)
        assert set(learner.suspects) >= {2}
        assert all(image // config.group_size == 2 // config.group_size for image in learner.suspects)
        learner.forget_suspects()
        assert learner.suspects == []


class TestPasses:
    """The table of transformer passes per image: 32F+4B, 28F+4B, 24F+2B, 18F+4B."""

    def test_guided_rollout_with_clip(self, model_folder, tmp_path):
        counted = passes(model_folder, tmp_path, sampling__guidance=4.5, dgpo__clip=0.01, dgpo__kl=0.02)
        assert counted == [20, 4, 4, 4, 4]

    def test_guided_rollout_without_clip(self, model_folder, tmp_path):
        assert passes(model_folder, tmp_path, sampling__guidance=4.5) == [20, 0, 4, 4, 4]

    def test_half_of_the_groups_dead(self, model_folder, tmp_path):
        assert passes(model_folder, tmp_path, half_dead, sampling__guidance=4.5) == [20, 0, 2, 2, 2]

    def test_old_policy_as_reference_without_guidance(self, model_folder, tmp_path):
        assert passes(model_folder, tmp_path, dgpo__reference="old", dgpo__clip=0.01) == [10, 4, 0, 4, 4]

    def test_guided_reference_counts_double(self, model_folder, tmp_path):
        assert passes(model_folder, tmp_path, dgpo__reference_guidance=4.5) == [10, 0, 8, 4, 4]
