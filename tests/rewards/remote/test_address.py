import pytest

from rewards.errors import UsageError
from rewards.remote.address import Address, is_address, split_address


@pytest.mark.parametrize(
    ("text", "base", "name", "wanted", "weight"),
    [
        ("http://gpu1:8000/ocr", "http://gpu1:8000", "ocr", "ocr", None),
        ("https://gpu1/ocr=0.5", "https://gpu1", "ocr", "ocr", "0.5"),
        ("http://gpu1:8000/ocr@1[weights=v4,detect=false]=2", "http://gpu1:8000", "ocr",
         "ocr@1[weights=v4,detect=false]", "2"),
        ("http://proxy/judges/a/pickscore@1", "http://proxy/judges/a", "pickscore", "pickscore@1", None),
        ("http://[::1]:8000/imagestats.edges=-1", "http://[::1]:8000", "imagestats.edges", "imagestats.edges", "-1"),
    ],
)  # fmt: skip
def test_an_address_is_taken_apart(text, base, name, wanted, weight):
    assert is_address(text)
    assert split_address(text) == (Address(base, name, wanted), weight)


def test_what_is_written_is_read_back():
    address = Address("http://h:1", "ocr", "ocr@1[weights=v4]", "0123456789ab")
    assert split_address(str(address)) == (address, None)


@pytest.mark.parametrize(
    "text",
    [
        "http://gpu1",
        "http://gpu1/",
        "http:///ocr",
        "http://me:secret@gpu1/ocr",
        "http://gpu1/ocr?token=secret",
        "http://a b/ocr",
        "http://gpu1:99999/ocr",
        "http://gpu1:x/ocr",
        "http://[gpu1/ocr",
        "http://a..b/ocr",
    ],
)
def test_other_words_are_refused(text):
    with pytest.raises(UsageError, match="DGPO_REWARD_TOKEN"):
        split_address(text)
