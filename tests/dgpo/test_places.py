"""Folders and files are kept by absolute paths."""

from dgpo.config import load_config


def test_what_is_here_is_anchored_and_names_stay_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m" / "sd3").mkdir(parents=True)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "signs").mkdir()
    (tmp_path / "p.txt").write_text("a cat\n")
    given = {"model": "m/sd3", "prompts": "p.txt", "weights": ["ocr=m/sd3", "clip=absent"], "evaluation.suite": "p.txt"}
    config = load_config("tiny", given)
    assert config.model == str(tmp_path / "m" / "sd3")
    assert config.prompts == config.evaluation.suite == str(tmp_path / "p.txt")
    assert config.weights == (f"ocr={tmp_path}/m/sd3", "clip=absent")
    names = {"model": "tiny", "prompts": "signs", "evaluation.suite": "signs"}
    named = load_config("tiny", names)
    assert (named.model, named.prompts, named.evaluation.suite) == ("tiny", "signs", "signs")
    for name in ("owner/name", "owner/name@refs/pr/1", "m/sd3@v1"):
        assert load_config("tiny", {"model": name}).model == name
    (tmp_path / "m" / "sd3@v1").mkdir()
    assert load_config("tiny", {"model": "m/sd3@v1"}).model == str(tmp_path / "m" / "sd3@v1")
