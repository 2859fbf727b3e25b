"""The network of the image examples and what it takes: `--model images.py:build_...`, `--transform images.py:scale`."""

import numpy as np
import torch
from torch import nn


def scale(images: np.ndarray) -> torch.Tensor:
    """Return uint8 images of shape (n, 32, 32, 3) as floats of shape (n, 3, 32, 32), centred."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).mul_(4)


def _block(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]


def _build(classes: int) -> nn.Module:
    return nn.Sequential(
        *_block(3, 24), *_block(24, 48), *_block(48, 96), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes)
    )


def build_utkface() -> nn.Module:
    return _build(2)


def build_cifar10() -> nn.Module:
    return _build(10)
