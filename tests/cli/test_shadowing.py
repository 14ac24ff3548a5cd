"""Somebody's own folder called `rewards` is named, not imported."""

from pathlib import Path

import pytest

from cli.shadowing import find_intruders

ROOT = Path(__file__).resolve().parents[2]


def test_our_own_folders_are_no_intruders():
    assert list(find_intruders(ROOT)) == []


def test_every_folder_elsewhere_is_named(tmp_path):
    sentences = list(find_intruders(tmp_path))
    assert len(sentences) == 4
    for sentence, name in zip(sentences, ("dgpo", "rewards", "benchmarks", "cli"), strict=True):
        assert sentence.startswith(f"{ROOT / name} is in the way of {tmp_path / name}")


@pytest.mark.parametrize("name", ["rewards", "benchmarks"])
@pytest.mark.parametrize("kind", ["package", "module"])
def test_intruder_is_named_with_how_to_mend_it(program, tmp_path, name, kind):
    place = tmp_path / "mine" / (name if kind == "package" else f"{name}.py")
    place.parent.mkdir()
    if kind == "package":
        place.mkdir()
        (place / "__init__.py").write_text("")
    else:
        place.write_text("")
    done = program("--help", before=f"import cli; sys.path.insert(0, {str(tmp_path / 'mine')!r})")
    assert done.returncode == 2
    assert str(place) in done.stderr
    assert "PYTHONPATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_folder_is_said(program, tmp_path):
    link = tmp_path / "installed"
    link.mkdir()
    for name in ("cli", "dgpo", "rewards"):
        (link / name).symlink_to(ROOT / name)
    uninstall = (
        "import os; sys.meta_path = [finder for finder in sys.meta_path if 'Editable' not in repr(finder)]; "
        f"sys.path = [{str(link)!r}, *(p for p in sys.path if not os.path.exists(os.path.join(p, 'benchmarks')))]"
    )
    done = program("--help", before=uninstall)
    assert done.returncode == 2
    assert "benchmarks is missing" in done.stderr
