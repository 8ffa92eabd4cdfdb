"""Compress your own network on a folder of photographs: python own_network.py PHOTOGRAPHS [CHECKPOINT]

PHOTOGRAPHS has `train/` and `test/`, each with one sub-folder per class. CHECKPOINT is a state dict of `Net`; without
one, the network is trained here for a few passes. Put your own class in place of `Net`: any `nn.Module` that takes
images [N, 3, H, W] and gives logits [N, classes] will do. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import transforms
from torchvision.datasets import ImageFolder

import bench

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What `bench` normalises photographs with, for a network that is handed over."""
SETTINGS = "quantize(bits=8),tic(k=32)+quantize(bits=8),magnitude(rate=0.8)+quantize(bits=8),l1(rate=0.5)"


class Net(nn.Module):
    """Four convolutions with batch norm and a linear classifier."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 64, 128)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


def train(net: nn.Module, folder: Path, size: int, passes: int = 5) -> None:
    """Your training; it should normalise the images as `bench` will."""
    steps = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    images = ImageFolder(str(folder), transforms.Compose(steps))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    net.train()
    for _ in range(passes):
        for batch, labels in torch.utils.data.DataLoader(images, 32, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch), labels).backward()
            optimizer.step()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compress a network of your own on a folder of photographs.")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--size", type=int, default=96, help="height and width in pixels that the network is given")
    parser.add_argument("--epochs", type=float, default=1, help="passes over the training images for every setting")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    torch.manual_seed(0)
    net = Net(len([each for each in (given.photographs / "train").iterdir() if each.is_dir()]))
    if given.checkpoint:
        net.load_state_dict(torch.load(given.checkpoint, weights_only=True))
    else:
        train(net, given.photographs / "train", given.size)

    # Several settings, with records in runs/. A second run prints the same at once.
    frame = bench.run(SETTINGS, net, given.photographs, epochs=given.epochs, image_size=given.size)
    columns = ["setting", "top1", "compression_ratio", "macs_ratio", "latency_speedup", "latency_noisy", "error"]
    print(frame[columns].to_string(index=False, float_format="{:.3f}".format))

    # One setting, with the compressed network itself. It can be trained further, and is on the CPU.
    setting = str(
        frame[frame["method"] != "none"].dropna(subset="top1").nlargest(1, "compression_ratio")["setting"].item()
    )
    compressed = bench.compress(net, setting, given.photographs, epochs=given.epochs, image_size=given.size)
    path = compressed.save("net.safetensors")
    print(f"{path}: {path.stat().st_size:,} bytes, {setting}, top-1 {compressed.figures['top1']:.3f}")

    # The file gives the same outputs when it is loaded again; `model=` brings the code of your network.
    images = torch.randn(2, 3, given.size, given.size)
    with torch.no_grad():
        torch.testing.assert_close(bench.load(path, model=net)(images), compressed.model(images))


if __name__ == "__main__":
    main()
