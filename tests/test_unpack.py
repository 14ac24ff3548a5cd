"""Links and packed files belong together, and a file is unpacked again when its packed one is newer."""

import lzma
import os

from tests.unpack import TESTS, unpack


def test_each_packed_file_has_its_link_and_each_link_leads_somewhere():
    golden = TESTS / "golden"
    links = [path for path in golden.rglob("*") if path.is_symlink()]
    assert all(link.exists() for link in links)
    led_to = {path.resolve() for path in links if "unpacked" in path.readlink().parts}
    packed = [path.relative_to(golden / "packed").with_suffix("") for path in (golden / "packed").rglob("*.xz")]
    assert led_to == {TESTS / "unpacked" / path for path in packed}
    assert packed


def test_newer_ones_are_unpacked_and_others_left(tmp_path):
    packed, into = tmp_path / "packed/folder/a.txt.xz", tmp_path / "unpacked/folder/a.txt"
    packed.parent.mkdir(parents=True)
    for content, wanted, time in ((b"one", b"one", 1000), (b"two", b"one", 1000), (b"two", b"two", 2000)):
        packed.write_bytes(lzma.compress(content))
        os.utime(packed, (time, time))
        unpack(tmp_path / "packed", tmp_path / "unpacked")
        assert into.read_bytes() == wanted
        os.utime(into, (1500, 1500))
    assert [path.name for path in into.parent.iterdir()] == ["a.txt"]
