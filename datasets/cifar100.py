"""CIFAR-100 (Krizhevsky 2009): 60,000 colour photographs, 32x32, labelled with its 100 fine classes."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from bench_datasets._torchvision import TorchvisionDataset

from bench import Recipe

CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""


class CIFAR100(TorchvisionDataset):
    """50,000 + 10,000 colour images in 100 classes, 32x32; downloaded on first use, or read from --data-root."""

    name: ClassVar[str] = "cifar100"
    layout: ClassVar[str] = "DIR/cifar-100-python/"
    classes = tuple(CLASSES.split())
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    recipe = Recipe(epochs=30)

    def read(self, part: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets  # takes longer to import than torch

        data = datasets.CIFAR100(self.folder, train=part == "train", download=self.download)
        return data.data.transpose(0, 3, 1, 2), np.array(data.targets)
