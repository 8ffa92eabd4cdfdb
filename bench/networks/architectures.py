"""Networks of the compression literature that neither timm nor pytorchcv has, for 32x32 images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option-A shortcut: every second pixel, zeros for the new channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padding:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(x + y)


class CifarResNet(nn.Module):
    """ResNet of 6n+2 layers for 32x32 images (He et al., CVPR 2016, section 4.2)."""

    def __init__(self, depth: int, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes, self.num_features, blocks = num_classes, 64, (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(BasicBlock(16, 16, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(*(BasicBlock(16 if i == 0 else 32, 32, 2 - (i > 0)) for i in range(blocks)))
        self.layer3 = nn.Sequential(*(BasicBlock(32 if i == 0 else 64, 64, 2 - (i > 0)) for i in range(blocks)))
        self.fc = nn.Linear(64, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


VGG16_WIDTHS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")


class CifarVGG(nn.Module):
    """VGG-16 with batch norm for 32x32 images.

    Later work has a single linear layer after the convolutions. With `hidden`, as in Li et al. (ICLR 2017), a linear
    layer of 512 units with batch norm comes before it.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 3, *, hidden: bool = False) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 512
        layers: list[nn.Module] = []
        channels = in_chans
        for width in VGG16_WIDTHS:
            if isinstance(width, int):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        before = [nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU()] if hidden else []
        last = nn.Linear(512, num_classes)
        self.fc = nn.Sequential(*before, last) if hidden else last
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits


def init_he(model: nn.Module) -> None:
    """Normal weights of variance 2 / fan-out for convolutions (He et al., ICCV 2015)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
