"""What the environment says of this process, and meeting places to which nobody comes, with real sockets."""

import socket
import subprocess
import sys

import pytest

from dgpo import processes
from dgpo.processes import VARIABLES, Place, find_place, meet, take_place
from rewards.errors import SetupError

WHOLE = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
COME = """
import sys, time
from dgpo.processes import Place, meet
meet(Place(rank=int(sys.argv[1]), size=2, address="127.0.0.1", port=int(sys.argv[2])))
print("met", flush=True)
time.sleep(3 if sys.argv[1] == "0" else 0)  # whoever holds the place stays until the other has seen it
"""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "gone", "MASTER_PORT": "29500"},
        {"RANK": "3", "LOCAL_RANK": "3"},
    ],
)
def test_a_single_process_whatever_else_is_set(variables):
    assert find_place(variables) == Place()


def test_one_of_several():
    assert find_place(WHOLE) == Place(rank=5, local_rank=1, size=8, local_size=8, address="node0", port=29500)
    assert find_place({**WHOLE, "LOCAL_WORLD_SIZE": "4"}).local_size == 4


@pytest.mark.parametrize("name", [name for name in VARIABLES if name != "WORLD_SIZE"])
def test_a_set_that_is_not_whole_is_refused_by_name(name):
    for lacking in ({key: value for key, value in WHOLE.items() if key != name}, {**WHOLE, name: ""}):
        with pytest.raises(SetupError, match=f"WORLD_SIZE=8 .* lacks {name}. Unset WORLD_SIZE"):
            find_place(lacking)


def test_world_size_alone_names_all_that_is_missing():
    with pytest.raises(SetupError, match="lacks RANK and LOCAL_RANK and MASTER_ADDR and MASTER_PORT"):
        find_place({"WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WORLD_SIZE", "four"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "-1"),
        ("RANK", "8"),
        ("RANK", "-1"),
        ("LOCAL_RANK", "8"),
        ("LOCAL_WORLD_SIZE", "9"),
        ("MASTER_PORT", "0"),
        ("MASTER_PORT", "65536"),
        ("MASTER_PORT", "٢٩"),
    ],
)
def test_impossible_values_are_refused_by_name(name, text):
    with pytest.raises(SetupError, match=f'{name} is "{text}" in the environment'):
        find_place({**WHOLE, name: text})


def test_a_single_process_forgets_what_it_was_told(monkeypatch):
    for name, value in {**WHOLE, "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert take_place() == Place()
    assert find_place() == Place()
    assert not {*VARIABLES, "LOCAL_WORLD_SIZE"} & set(processes.os.environ)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_S", 1.0)
    monkeypatch.setattr(processes, "QUIET_S", 0.1)


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_where_nobody_answers_is_announced_and_left(impatient, port):
    notes = []
    with pytest.raises(SetupError, match=f"did not meet: after 1 s at .*127.0.0.1:{port} .*, nobody answers there"):
        meet(Place(rank=1, size=2, address="127.0.0.1", port=port), notes.append)
    (note,) = notes
    assert "waiting for 2 processes to meet" in note
    assert "for 1 s at most" in note


def test_who_answers_but_is_no_meeting_place_is_left(impatient):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = Place(rank=1, size=2, address="127.0.0.1", port=mute.getsockname()[1])
        with pytest.raises(SetupError, match="somebody answers who knows nothing of it"):
            meet(place)


def test_who_does_not_come_is_named(impatient, port):
    with pytest.raises(SetupError, match="number 1, 2 had not come"):
        meet(Place(rank=0, size=3, address="127.0.0.1", port=port))


def test_a_taken_place_is_said(impatient):
    with socket.create_server(("", 0)) as taken:
        place = Place(rank=0, size=2, address="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(SetupError, match="the place cannot be opened"):
            meet(place)


def test_all_meet(port):
    both = [
        subprocess.Popen([sys.executable, "-c", COME, str(rank), str(port)], stdout=subprocess.PIPE, text=True)
        for rank in (1, 0)
    ]
    assert [process.communicate(timeout=120)[0] for process in both] == ["met\n", "met\n"]
