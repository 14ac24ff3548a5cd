import sys

import pytest

from rewards.errors import DgpoError, ScoringError, SetupError, UsageError, load_extra, suggestion


def test_exit_codes_tell_wrong_use_from_a_lacking_environment():
    assert (DgpoError.exit_code, UsageError.exit_code, SetupError.exit_code, ScoringError.exit_code) == (2, 2, 3, 5)


def test_suggestion_offers_the_near_name_else_the_list():
    assert suggestion("imagstats", ["ocr", "imagestats"]) == ' Did you mean "imagestats"?'
    assert suggestion("zzz", ["ocr", "imagestats"]) == " Choose from: imagestats, ocr."
    assert suggestion("zzz", []) == ""


def test_load_extra_imports_or_names_the_command():
    assert load_extra("json", "ocr") is sys.modules["json"]
    with pytest.raises(SetupError, match=r"no_such_module_here, which is not installed: pip install 'dgpo\[ocr\]'"):
        load_extra("no_such_module_here.part", "ocr")


@pytest.mark.parametrize(
    ("cause", "advice"),
    [("libGL.so.1: cannot open shared object file", "opencv-python-headless"), ("bad ELF header", "--force-reinstall")],
)
def test_a_library_that_does_not_load_is_told_apart_from_a_missing_one(tmp_path, monkeypatch, cause, advice):
    (tmp_path / "broken_library.py").write_text(f"raise ImportError({cause!r})")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SetupError, match="is installed but does not load") as caught:
        load_extra("broken_library", "ocr")
    assert advice in str(caught.value)
    assert cause in str(caught.value)
