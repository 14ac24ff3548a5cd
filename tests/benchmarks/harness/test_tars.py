"""Tars: what is taken for an image and its prompt, and that damage is told, whatever it is."""

import io
import json
import tarfile

import pytest

from benchmarks.harness.listing import list_images
from benchmarks.harness.stored import Lost, read_stored
from benchmarks.harness.tars import list_tar
from rewards.errors import UsageError
from rewards.images import IMAGE_BYTES
from rewards.prompt import Prompt
from tests.benchmarks.stored_images import add_member, draw, samples, write_tar

IMAGES = draw(5)
PROMPTS = [f"picture {place}" for place in range(5)]


def read(name):
    """What a tar tells: by its images' names, their prompts with their bytes, or with the reason why there are none."""
    told = list(list_tar(str(name)))
    found = []
    for one, get in zip(told, read_stored(one.image for one in told), strict=True):
        try:
            found.append((one.image.name.removeprefix(f"{name.parent}/"), one.prompt, get()))
        except OSError as error:
            found.append((one.image.name.removeprefix(f"{name.parent}/"), one.prompt, error.strerror))
    return found


def test_images_come_in_order_with_their_prompts(tmp_path):
    tar = write_tar(tmp_path / "a.tar", samples(IMAGES, PROMPTS))
    assert read(tar) == [(f"a.tar#{place:03d}.png", PROMPTS[place], IMAGES[place]) for place in range(5)]


def test_prompts_are_text_or_json_before_or_behind_their_image(tmp_path):
    tar = write_tar(
        tmp_path / "a.tar",
        [
            ("deep/one.txt", b" a cat\n"),
            ("deep/one.jpg", IMAGES[0]),
            ("two.WEBP", IMAGES[1]),
            ("two.json", json.dumps({"prompt": "a dog", "seed": 4, "artist": "me"}).encode()),
            ("three.jpeg", IMAGES[2]),
            ("two.seg.png", IMAGES[3]),
            ("__shard__.json", b"{}"),
        ],
    )
    assert read(tar) == [
        ("a.tar#deep/one.jpg", "a cat", IMAGES[0]),
        ("a.tar#two.WEBP", "a dog", IMAGES[1]),
        ("a.tar#three.jpeg", "", IMAGES[2]),
    ]
    assert [(entry.prompt, entry.seed) for entry in list_images([tar])] == [
        (Prompt("a cat"), 0),
        (Prompt("a dog"), 4),
        (None, 0),
    ]


def test_only_regular_members_are_read_and_nothing_lands_on_the_disk(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(IMAGES[4])
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        add_member(tar, "folder.png", kind=tarfile.DIRTYPE)
        add_member(tar, "soft.png", kind=tarfile.SYMTYPE, link=str(secret))
        add_member(tar, "hard.png", kind=tarfile.LNKTYPE, link=str(secret))
        add_member(tar, "pipe.png", kind=tarfile.FIFOTYPE)
        add_member(tar, "../up.png", IMAGES[0])
        add_member(tar, "/root.png", IMAGES[1])
    assert read(path) == [("a.tar#../up.png", "", IMAGES[0]), ("a.tar#/root.png", "", IMAGES[1])]
    assert sorted(tmp_path.rglob("*.png")) == [secret]


def test_what_is_wrong_with_one_image_costs_that_image(tmp_path):
    tar = write_tar(
        tmp_path / "a.tar",
        [
            *samples(IMAGES[:1], PROMPTS[:1]),
            ("twice.png", IMAGES[1]),
            ("twice.png", IMAGES[2]),
            ("bad.png", IMAGES[1]),
            ("bad.json", b"{"),
            ("latin.png", IMAGES[1]),
            ("latin.txt", "café".encode("latin-1")),
            ("number.png", IMAGES[1]),
            ("number.json", b'{"prompt": 3}'),
            ("alone.txt", b"a picture that is not there"),
            ("big.png", bytes(IMAGE_BYTES + 1)),
            ("last.png", IMAGES[3]),
        ],
    )
    (name, _, data), *wrong, last = read(tar)
    assert (name, data) == ("a.tar#000.png", IMAGES[0])
    assert last == ("a.tar#last.png", "", IMAGES[3])
    said = {name.partition("#")[2]: reason for name, _, reason in wrong}
    assert list(said) == ["twice.png", "bad.png", "latin.png", "number.png", "alone", "big.png"]
    assert said["twice.png"] == "the tar has 2 members of this name"
    assert "its prompt in bad.json cannot be read" in said["bad.png"]
    assert "its prompt in latin.txt cannot be read" in said["latin.png"]
    assert 'it needs an object with a text under "prompt"' in said["number.png"]
    assert said["alone"] == "the tar has its prompt, and no image"
    assert said["big.png"] == f"it has {IMAGE_BYTES + 1} bytes, and at most {IMAGE_BYTES} are read"


def test_a_tar_cut_off_anywhere_loses_nothing_without_a_word(tmp_path):
    """At whatever byte it ends: what is whole is read, and one more row says that it is not all."""
    whole = write_tar(tmp_path / "whole.tar", samples(IMAGES, PROMPTS)).read_bytes()
    everything = [one[1:] for one in read(tmp_path / "whole.tar")]
    end = len(whole.rstrip(b"\0"))
    for size in [*range(1, end, 311), *range(512, end, 512), end]:
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:size])
        *known, (name, _, reason) = read(path)
        whole_ones = [one[1:] for one in known if isinstance(one[2], bytes)]
        assert isinstance(reason, str)
        assert name == "cut.tar"
        assert "cut.tar" not in [name for name, *_ in known]
        assert whole_ones == everything[: len(whole_ones)]  # with their whole prompts
        # No more than one image is known of and not there.
        assert len(known) - len(whole_ones) <= 1


def test_a_damaged_header_ends_the_tar_with_a_reason(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(IMAGES, PROMPTS))
    with tarfile.open(path) as tar:
        offset = tar.getmember("003.png").offset
    data = bytearray(path.read_bytes())
    data[offset + 20] ^= 4
    path.write_bytes(data)
    *found, last = read(path)
    assert [data for *_, data in found] == IMAGES[:3]
    assert last == ("a.tar", "", f"the tar has a damaged header at byte {offset}, and what follows is not known")


def test_tars_one_behind_the_other_are_not_taken_for_one(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(IMAGES, PROMPTS))
    path.write_bytes(path.read_bytes() * 2)
    *found, (name, _, reason) = read(path)
    assert len(found) == 5
    assert name == "a.tar"
    assert "goes on behind its end mark" in reason


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the tar is damaged behind byte 0"),
        (b"no tar at all", "the tar is damaged behind byte 0"),
        (b"x" * 4096, "the tar is damaged behind byte 0"),
        (bytes(10240), "the tar holds no image"),
    ],
)
def test_what_is_no_tar_is_one_row(tmp_path, data, said):
    (tmp_path / "a.tar").write_bytes(data)
    ((name, _, reason),) = read(tmp_path / "a.tar")
    assert name == "a.tar"
    assert said in reason


def test_a_header_that_points_backwards_does_not_go_round_for_ever(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.size = -1024
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + bytes(10240))
    (*_, (name, _, reason)) = read(tmp_path / "a.tar")
    assert name == "a.tar"
    assert "damaged" in reason


def test_a_tar_that_is_gone_or_no_file_is_one_row(tmp_path):
    (entry,) = list_images([tmp_path / "gone.tar"])
    assert isinstance(entry.image.holder, Lost)
    with pytest.raises(FileNotFoundError):
        next(read_stored([entry.image]))()
    whole = list_images([write_tar(tmp_path / "a.tar", samples(IMAGES, PROMPTS))])
    (tmp_path / "a.tar").unlink()
    for get in read_stored(entry.image for entry in whole):
        with pytest.raises(FileNotFoundError):
            get()


def test_a_seed_that_is_none_is_refused(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [("x.png", IMAGES[0]), ("x.json", b'{"prompt": "a", "seed": -1}')])
    with pytest.raises(UsageError, match=r'a\.tar#x\.json: the seed "-1" is not a whole number'):
        list_images([tar])


def test_headers_only_are_read_to_list(tmp_path, monkeypatch):
    """The bytes of images are passed over: a tar of a terabyte is listed by its headers."""
    path = write_tar(tmp_path / "a.tar", [("x.png", bytes(2**22)), ("x.txt", b"a cat"), ("y.png", bytes(2**22))])
    taken = 0

    class Counting(io.FileIO):
        def read(self, size=-1):
            nonlocal taken
            data = super().read(size)
            taken += len(data)
            return data

    monkeypatch.setattr("benchmarks.harness.tars.open_file", Counting)
    assert len(list(list_tar(str(path)))) == 2
    assert taken < 2**16
