"""How much memory is left, by the files of the system and of a container."""

import torch

from dgpo import memory

CPU = torch.device("cpu")


def container(folder, monkeypatch, limit, **files):
    for name, text in {"memory.max": limit, **{f"memory.{name}": text for name, text in files.items()}}.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(memory, "CONTAINER", folder)


def test_of_this_machine_it_is_some():
    assert 2**20 < memory.free_memory(CPU) <= memory.total_memory() < 2**45


def test_a_container_has_what_its_limit_leaves_and_its_cache_gives_back(tmp_path, monkeypatch):
    container(tmp_path, monkeypatch, "1000\n", current="700\n", stat="anon 500\ninactive_file 150\nactive_file 20\n")
    assert memory.total_memory() == 1000
    assert memory.free_memory(CPU) == 470


def test_one_that_is_full_has_none(tmp_path, monkeypatch):
    container(tmp_path, monkeypatch, "1000\n", current="1010\n")
    assert memory.free_memory(CPU) == 0


def test_one_without_a_limit_has_the_machines(tmp_path, monkeypatch):
    container(tmp_path, monkeypatch, "max\n", current="700\n")
    assert memory.total_memory() > 2**20
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.free_memory(CPU) == 4096


def test_without_any_file_it_is_all_that_the_machine_has(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "absent")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert memory.free_memory(CPU) == memory.total_memory()
