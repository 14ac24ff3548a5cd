"""A random model of the embedded model's shape, and processes that start at once."""

import copy
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from torch import nn

from dgpo.config import Config
from dgpo.load import load_model, weights_dtype
from dgpo.models.sd3 import SD3
from dgpo.models.tiny import network
from dgpo.models.tiny.pretrain import Denoiser, export
from dgpo.policy import Policy
from tests.dgpo.training import small_config


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with random weights; those that start at zero are drawn too, so that gradients flow."""
    torch.manual_seed(0)
    denoiser, autoencoder = Denoiser(), network.build_autoencoder()
    autoencoder.register_to_config(shift_factor=0.1, scaling_factor=1.2)
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("models") / "random"
    export(folder, autoencoder, denoiser)
    return folder


@pytest.fixture(scope="session")
def loaded() -> dict[str, SD3]:
    """Models as they came from the disk, by precision."""
    return {}


@pytest.fixture
def make_policy(model_folder: Path, loaded: dict[str, SD3]) -> Callable[..., tuple[Policy, Config]]:
    """A policy ready to train, on a copy of the random model, and its config with changes by dotted names."""

    def make(changes: dict | None = None, *, trainable: bool = True) -> tuple[Policy, Config]:
        config = small_config(model_folder, changes)
        dtype = weights_dtype(config.training)
        if dtype not in loaded:
            read = load_model(config.model, dtype=dtype, device=torch.device("cpu"), text_length=0)
            assert isinstance(read, SD3)
            loaded[dtype] = read
        model = SD3(copy.deepcopy(loaded[dtype].pipeline), text_length=0)
        return Policy(model, config.training, seed=config.seed, trainable=trainable), config

    return make


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.dgpo.training", "dgpo.models.tiny.pretrain"])
    return context
