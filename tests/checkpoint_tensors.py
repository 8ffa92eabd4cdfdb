"""A small network and tensors for it, as a checkpoint holds them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


def make_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = make_network().state_dict()
    return {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in state.items()}
