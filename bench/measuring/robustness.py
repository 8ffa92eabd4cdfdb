"""How a network does on images that were changed to mislead it.

Projected gradient descent (Madry et al.: Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018) in
the L-infinity norm, from a random start, with the network's own gradients and the true labels. It works on pixels
before normalisation and counts them in levels, 0 to 255. The images are of whole levels and so is the distance, so
rounding the result to an image that can be stored leads out of neither.
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
"""What activations may take of a computer's main memory; of a CUDA device's it is half of what is free."""


@dataclass(frozen=True)
class Attack:
    """How many test images are attacked, and how: the farthest a pixel moves and each step, in levels of 255."""

    images: int
    distance: int = 8
    step: int = 1
    steps: int = 10

    def choose(self, images: Images) -> Images:
        """The first of an order that is the same for every network and seed."""
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SAMPLE_SEED))
        return images.subset(order[: self.images])


@dataclass(frozen=True)
class Robustness:
    """What a network said of N images as they are, and attacked; int64 [N] each."""

    labels: Tensor
    clean: Tensor
    attacked: Tensor

    @property
    def clean_top1(self) -> float:
        return _share(self.clean == self.labels)

    @property
    def robust_top1(self) -> float:
        """Remnant accuracy: that on the attacked images."""
        return _share(self.attacked == self.labels)

    @property
    def prediction_change_rate(self) -> float:
        """Share of the images, rightly recognised or not, of which it says something else under attack."""
        return _share(self.attacked != self.clean)

    @property
    def attack_success_rate(self) -> float | None:
        """Share of the rightly recognised images that the attack turned wrong; None where there were none."""
        right = self.clean == self.labels
        return _share((self.attacked != self.labels)[right]) if right.any() else None


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def measure_robustness(model: nn.Module, feed: Feed, attack: Attack, seed: int) -> Robustness:
    """Attack every image of `feed`, in float32. Random starts depend on the seed alone, not on batches or device."""
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
    """`images`, whole levels as float32 [B, C, H, W], moved to where the loss of `labels` is higher, to whole levels.

    `start` is where each pixel begins, relative to the image and no farther than the attack's distance.
    """
    lowest, highest = (images - attack.distance).clamp(min=0), (images + attack.distance).clamp(max=WHITE)
    moved = (images + start).clamp(lowest, highest)
    for _ in range(attack.steps):
        moved.requires_grad_()
        # A sum, so that no image's gradient depends on the batch it is in.
        loss = F.cross_entropy(model(normalise(moved)), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)  # of the pixels alone: weights accumulate nothing
        moved = (moved.detach() + attack.step * gradient.sign()).clamp(lowest, highest)
    return moved.detach().round()


@torch.no_grad()
def _predict(model: nn.Module, images: Tensor) -> Tensor:
    return model(images).argmax(1)  # type: ignore[no-any-return]


def affordable_batch(model: nn.Module, feed: Feed) -> int:
    """How many images at once leave memory for what a gradient needs of every layer."""
    room = torch.cuda.mem_get_info(feed.device)[0] // 2 if feed.device.type == "cuda" else HOST_BYTES
    image = torch.zeros(1, *feed.preprocessing.size, device=feed.device)
    return min(MOST_IMAGES, max(1, room // activation_bytes(model, image)))


def activation_bytes(model: nn.Module, image: Tensor) -> int:
    """Bytes that autograd keeps of one pass of `image` [1, C, H, W], the network's own weights aside."""
    weights = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(image.requires_grad_())
    return max(1, sum(size for place, size in kept.items() if place not in weights))
