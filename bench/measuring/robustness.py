"""The accuracy of a network under an adversarial attack.

Projected gradient descent (Madry et al.: Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018) in
the L-infinity norm, from a random start, with the network's own gradients and the true labels. It changes the pixels
before normalisation, in levels from 0 to 255. Images and distance are whole levels, so the result, rounded to whole
levels, stays within the range of pixels and within the distance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.dataset import Images
from bench.data.feed import Feed
from bench.system.progress import bar

WHITE = 255
SAMPLE_SEED = 0
MOST_IMAGES = 256
HOST_BYTES = 1_000_000_000
"""Bytes of main memory that activations may take; on a CUDA device it is half of the free memory."""


@dataclass(frozen=True)
class Attack:
    """How many test images to attack, and how far a pixel may move in all and in one step, both in levels of 255."""

    images: int
    distance: int = 8
    step: int = 1
    steps: int = 10

    def choose(self, images: Images) -> Images:
        """`self.images` random images, the same for every network and seed."""
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SAMPLE_SEED))
        return images.subset(order[: self.images])


@dataclass(frozen=True)
class Robustness:
    """True labels of N images, and what a network predicts for them as they are and attacked; int64 [N] each."""

    labels: Tensor
    clean: Tensor
    attacked: Tensor

    @property
    def clean_top1(self) -> float:
        return _share(self.clean == self.labels)

    @property
    def robust_top1(self) -> float:
        """Top-1 on the attacked images (remnant accuracy)."""
        return _share(self.attacked == self.labels)

    @property
    def prediction_change_rate(self) -> float:
        """Share of all images whose prediction changes under attack."""
        return _share(self.attacked != self.clean)

    @property
    def attack_success_rate(self) -> float | None:
        """Share of the correctly classified images that the attack makes wrong; None where there are none."""
        right = self.clean == self.labels
        return _share((self.attacked != self.labels)[right]) if right.any() else None


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def measure_robustness(model: nn.Module, feed: Feed, attack: Attack, seed: int) -> Robustness:
    """Attack every image of `feed`, in float32. Random starts depend on the seed, not on batch size or device."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with bar("attacking", len(feed)) as advance:
        for batch, labels in feed.once(affordable_batch(model, feed)):
            images = feed.levels(batch)
            start = attack.distance * (2 * torch.rand(images.shape, generator=generator) - 1)
            attacked = perturb(model, feed.normalise, images, labels, start.to(feed.device), attack)
            clean, misled = (_predict(model, feed.normalise(pixels)) for pixels in (images, attacked))
            parts.append((labels, clean, misled))
            advance(len(labels))
    return Robustness(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def perturb(
    model: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    attack: Attack,
) -> Tensor:
    """Change `images` to increase the loss of `labels`; both are whole levels, float32 [B, C, H, W].

    `start` is the first change of each pixel, within the attack's distance.
    """
    lowest, highest = (images - attack.distance).clamp(min=0), (images + attack.distance).clamp(max=WHITE)
    moved = (images + start).clamp(lowest, highest)
    for _ in range(attack.steps):
        moved.requires_grad_()
        # A sum, so that the gradient of an image does not depend on the others in its batch.
        loss = F.cross_entropy(model(normalise(moved)), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)  # only of the pixels: weights accumulate no gradients
        moved = (moved.detach() + attack.step * gradient.sign()).clamp(lowest, highest)
    return moved.detach().round()


@torch.no_grad()
def _predict(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).argmax(1)  # type: ignore[no-any-return]


def affordable_batch(model: nn.Module, feed: Feed) -> int:
    """The largest batch whose activations fit in memory, up to MOST_IMAGES."""
    room = torch.cuda.mem_get_info(feed.device)[0] // 2 if feed.device.type == "cuda" else HOST_BYTES
    image = torch.zeros(1, *feed.preprocessing.size, device=feed.device)
    return min(MOST_IMAGES, max(1, room // activation_bytes(model, image)))


def activation_bytes(model: nn.Module, image: Tensor) -> int:
    """Bytes that autograd keeps for one pass of `image` [1, C, H, W], without the network's weights."""
    weights = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(image.requires_grad_())
    return max(1, sum(size for place, size in kept.items() if place not in weights))
