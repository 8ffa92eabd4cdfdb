"""Networks of a user's own, for the tests: plain, with a residual block, with grouped convolutions; and wrong ones."""

from __future__ import annotations

import sys

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.one, self.norm1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.two, self.norm2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.head = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        y = F.relu(self.norm1(self.one(x)))
        x = F.relu(x + self.norm2(self.two(y)))
        logits: Tensor = self.head(F.relu(self.down(x)).mean((2, 3)))
        return logits


class Plain(nn.Sequential):
    """Convolutions with biases and two linear layers; its arguments are required."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 24),
            nn.ReLU(),
            nn.Linear(24, num_classes),
        )


def grouped(**options: int) -> nn.Module:
    """Grouped and depthwise convolutions, built by a function that takes anything."""
    return nn.Sequential(
        nn.Conv2d(options.get("in_chans", 3), 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, groups=4, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 24, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, options["num_classes"]),
    )


class Counting(nn.Module):
    """Has a whole number that is no batch counter, and that its outputs depend on."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)
        self.register_buffer("shift", __import__("torch").tensor([1, 0]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(x).mean((2, 3))) + self.shift[0]
        return logits


def published(num_classes: int, pretrained: bool = False) -> nn.Module:
    """Has weights of its own, all of them a half."""
    model = Residual(num_classes)
    if pretrained:
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.5)
    return model


def ten_classes() -> nn.Module:
    return Plain(10, 3)


def raises(num_classes: int) -> nn.Module:
    raise ValueError(f"no network for {num_classes}\nclasses")


def leaves() -> nn.Module:
    sys.exit(3)


def returns_text() -> str:
    print("printed while it was built")
    return "a network"


def needs_more(width: int, num_classes: int) -> nn.Module:
    return nn.Linear(width, num_classes)


class Tuple(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x), x  # type: ignore[return-value]


class Fixed(Residual):
    """Reads 32x32 images only."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.head = nn.Linear(32 * 16 * 16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.down(F.relu(self.norm(self.stem(x))))).flatten(1))
        return logits


instance = nn.Linear(3, 3)
number = 7
