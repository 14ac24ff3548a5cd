"""The load script runs as a command, in a short form; and it notices wrong scores, floods and servers that give in."""

import pytest

from benchmarks.machines import server_load as load
from benchmarks.machines.attacks import Attack, form, list_attacks
from benchmarks.machines.server_load import Load, Outcome, attack, draw_pictures, main, press, render_outcomes, running
from rewards.parse import parse_rewards


@pytest.fixture(scope="module")
def specs():
    return parse_rewards(["imagestats.edges"])


@pytest.fixture(scope="module")
def server():
    with running(["imagestats.edges"], [], ["request_seconds=1"]) as started:
        yield started


@pytest.mark.slow
def test_the_command_measures_and_all_is_well(capsys, monkeypatch):
    kept = ("half a PNG", "a pickle as image", "PNG with 1 GB in a zTXt chunk", "prompt of 500000 characters")
    monkeypatch.setattr(load, "list_attacks", lambda *a: [one for one in list_attacks(*a) if one.name in kept])
    main(["--clients", "4", "--calls", "3", "--images", "2", "--reward", "imagestats.edges", "--queue", "2"])
    shown = capsys.readouterr().out
    assert "| 1024 | 12 | 24 |" in shown
    assert "| 2 | 12 | 24 |" in shown
    assert all(f"| {name} | 4" in shown for name in kept)
    assert "NO" not in shown


def test_every_attack_is_refused_and_the_server_stays_right(server, specs):
    """All but the two that are slow on purpose, and those that need a server of little memory."""
    process, base = server
    pictures = draw_pictures(specs, 8, 0)
    attacks = [
        one
        for one in list_attacks(base, specs[0].key, mutations=60)
        if "trickle" not in one.name and "200 MB" not in one.name and "40 MB" not in one.name
    ]
    outcomes = attack(process.pid, base, specs, pictures, attacks)
    assert [one.name for one in outcomes if not one.good] == []
    assert len(outcomes) > 35
    assert process.poll() is None


def test_a_body_that_trickles_is_given_up(server, specs):
    (slow,) = [one for one in list_attacks(server[1], specs[0].key) if one.name.startswith("a body that trickles")]
    assert slow.send() == [408]


def test_wrong_scores_are_noticed(server, specs):
    pictures = draw_pictures(specs, 8, 0)
    right = press(server[1], specs, pictures, clients=2, calls=2, images=2)
    assert (right.images, right.failed, right.right) == (8, 0, True)
    shifted = [
        load.Picture(one.image, one.prompt, other.scores)
        for one, other in zip(pictures, pictures[1:] + pictures[:1], strict=True)
    ]
    assert not press(server[1], specs, shifted, clients=2, calls=2, images=2).right
    assert not any(one.good for one in attack(server[0].pid, server[1], specs, shifted, [Attack("none", lambda: [])]))


@pytest.mark.parametrize(
    ("statuses", "seconds", "memory", "right", "good"),
    [
        ({422: 1}, 1.0, (100, 110, 120), True, True),
        ({}, 1.0, (100, 110, 120), True, True),
        ({200: 1}, 1.0, (100, 110, 120), True, False),
        ({500: 1}, 1.0, (100, 110, 120), True, False),
        ({422: 1}, 99.0, (100, 110, 120), True, False),
        ({422: 1}, 1.0, (100, 110, 900), True, False),
        ({422: 1}, 1.0, (100, 110, 120), False, False),
    ],
)  # fmt: skip
def test_what_counts_as_withstood(statuses, seconds, memory, right, good):
    outcome = Outcome("it", statuses, seconds, memory, right)
    assert outcome.good == good
    assert ("NO" in render_outcomes([outcome])) == (not right)


def test_no_image_at_all_is_no_success():
    assert not Load().right
    assert Load(images=4, difference=1e-7).right
    assert not Load(images=4, failed=1).right
    assert not Load(images=4, difference=1e-3).right


def test_a_form_is_multipart():
    assert form([("a", b"b")]) == (
        b'-------dgpo\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n-------dgpo--\r\n'
    )
