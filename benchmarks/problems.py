"""Real data ready to learn, and the small networks that learn it: what the benchmarks of repair are made on.

The data folder comes from the environment variable FAIRGUARD_DATA.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fairguard.repair.masks import Masks
from fairguard.repair.rows import shuffled

DATA = Path(os.environ.get("FAIRGUARD_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
AGE_BANDS = (10, 20, 30, 40, 60)
"""First ages of UTKFace's age bands but the youngest."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A data set ready to learn.

    Attributes:
        x: features, shape (n, ...), float32.
        y: class codes, shape (n,).
        groups: sensitive features by name, shape (n,) each.
        build: makes the untrained network.
        epochs: of the dense network's training.
        margin: excess drop that a check of these rows allows, a fraction.
        published: weights of a dense network that others trained; ``None``: it is trained here.
        unseen: shape (n,), the rows that it was not trained on.
        balanced: whether dense and PRUNED are trained on labels weighted so that all classes count alike.
    """

    x: Tensor
    y: Tensor
    groups: dict[str, NDArray[Any]]
    build: Callable[[], nn.Module]
    epochs: int
    margin: float = 0.02
    published: dict[str, Tensor] | None = None
    unseen: NDArray[np.bool_] | None = None
    balanced: bool = False

    def learn(self, net: nn.Module, seen: Tensor, **how: Any) -> None:
        """Train a network on the rows numbered ``seen``, see :func:`learn`."""
        count = torch.bincount(self.y[seen]).float()
        learn(net, self.x[seen], self.y[seen], weight=len(seen) / len(count) / count if self.balanced else None, **how)

    @property
    def classwise(self) -> bool:
        """Return whether the groups are the classes themselves."""
        return list(self.groups) == ["class"]


def mlp(width: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes)
    )


def small_cnn(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for wide, narrow in ((3, 16), (16, 32), (32, 64)):
        layers += [*_conv(wide, narrow), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, classes))


def vgg(classes: int) -> nn.Module:
    """Return a small VGG for 32x32 images, whose first layer strides."""
    layers = [*_conv(3, 16, stride=2), *_conv(16, 24), nn.MaxPool2d(2), *_conv(24, 32), *_conv(32, 48), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 16, 64), nn.ReLU(), nn.Linear(64, classes))


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, wide: int, narrow: int, stride: int) -> None:
        """Build the block."""
        super().__init__()
        self.body = nn.Sequential(*_conv(wide, narrow, stride=stride), *_conv(narrow, narrow)[:2])
        self.shortcut = nn.Conv2d(wide, narrow, 1, stride=stride, bias=False) if wide != narrow else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(classes: int) -> nn.Module:
    """Return a small residual net for 32x32 images, whose first layer strides."""
    blocks = [Residual(12, 12, 1), Residual(12, 24, 2), Residual(24, 48, 2)]
    return nn.Sequential(
        *_conv(3, 12, stride=2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, classes)
    )


class ResNet20(nn.Module):
    """The network of pytorch_resnet_cifar10, for 32x32 images of ten classes."""

    def __init__(self) -> None:
        """Build the layers, named as in the published state dict."""
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        for number, (wide, narrow) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            blocks = (Padded(wide, narrow), Padded(narrow, narrow), Padded(narrow, narrow))
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (n, 10)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Padded(nn.Module):
    """Two convolutions and a shortcut that is padded with zeros where the block narrows the image."""

    def __init__(self, wide: int, narrow: int) -> None:
        """Build the block; it strides where it widens."""
        super().__init__()
        self.stride, self.pad = narrow // wide, (narrow - wide) // 2
        self.conv1, self.bn1 = nn.Conv2d(wide, narrow, 3, self.stride, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv2, self.bn2 = nn.Conv2d(narrow, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        inside = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inside + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad)))


class Reader(nn.Module):
    """A small transformer encoder over token ids, 0 for padding."""

    def __init__(self, vocabulary: int, length: int, classes: int, width: int = 64) -> None:
        """Build embeddings, two layers and the classifier over their mean."""
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for token ids of shape (n, length)."""
        here = (x != 0)[..., None]
        seen = self.encoder(self.words(x) + self.places, src_key_padding_mask=~here[..., 0])
        return self.out((seen * here).sum(1) / here.sum(1).clamp_min(1))


def _conv(wide: int, narrow: int, *, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(wide, narrow, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(narrow), nn.ReLU()]


def table(name: str, groups: tuple[str, ...], drop: tuple[str, ...], *, where: str | None = None) -> Problem:
    """Return one of the CSV files."""
    frame = pd.read_csv(DATA / f"{name}.csv.gz")
    frame = frame if where is None else frame[frame[where] == 1]
    named = {column: frame[column].astype(str).to_numpy() for column in groups}
    return tabular(frame.drop(columns=["label", *drop]), frame["label"].to_numpy(), named)


def tabular(columns: pd.DataFrame, y: NDArray[Any], groups: dict[str, NDArray[Any]]) -> Problem:
    """Return a table with these features; text becomes indicators, and everything is standardised."""
    filled = columns.fillna({c: 0 if pd.api.types.is_numeric_dtype(columns[c]) else "0" for c in columns})
    features = pd.get_dummies(filled).astype("float32")
    x = ((features - features.mean()) / (features.std() + 1e-6)).to_numpy()
    build = partial(mlp, x.shape[1], int(y.max()) + 1)
    return Problem(torch.from_numpy(x), torch.tensor(y), groups, build, epochs=12)


def faces(*, build: Callable[[int], nn.Module], label: str = "gender", by: tuple[str, ...] = ("race",)) -> Problem:
    """Return UTKFace.

    Args:
        build: makes the network for so many classes.
        label: ``gender`` or ``age``, in bands.
        by: groups: columns of the file, or ``class`` for the label's own classes.
    """
    arrays = np.load(DATA / "utkface.npz", allow_pickle=False)
    keep = arrays["age"] >= (10 if label == "gender" else 0)  # children's genders are labelled at a guess
    y = arrays["gender"] if label == "gender" else np.digitize(arrays["age"], AGE_BANDS)
    groups = {column: (y if column == "class" else arrays[column])[keep] for column in by}
    return images(arrays["X"][keep], y[keep], groups, build, epochs=40)


def cifar(*, build: Callable[[int], nn.Module]) -> Problem:
    """Return CIFAR-10, groups by class."""
    arrays = np.load(DATA / "cifar10.npz", allow_pickle=False)
    return images(arrays["X"], arrays["label"], {"class": arrays["label"]}, build)


def published() -> Problem:
    """Return CIFAR-10 and a ResNet-20 of 91.7 % that others trained on all 50,000 of its training images.

    20,000 of these are here to repair with, and 5,000 of the test images to judge on.
    """
    arrays = np.load(DATA / "cifar10.npz", allow_pickle=False)
    weights = np.load(DATA / "cifar10_resnet20_weights.npz", allow_pickle=False)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    rows = cifar(build=lambda _: ResNet20())
    return replace(
        rows,
        x=((rows.x + 1) / 2 - mean) / std,
        published={name: torch.from_numpy(weights[name]) for name in weights.files},
        unseen=arrays["split"] == 2,
    )


def tweets() -> Problem:
    """Return tweets to tell hate in, by inferred gender, age, ethnicity; who wrote one to judge on wrote no other."""
    arrays = np.load(DATA / "tweets_hate_english.npz", allow_pickle=False)
    keep = arrays["split_user"] != 255
    groups = {column: arrays[column][keep].astype(str) for column in ("gender", "age", "ethnicity")}
    x = torch.from_numpy(arrays["tokens"][keep].astype(np.int64))
    y = torch.from_numpy(arrays["label"][keep].astype(np.int64))
    unseen = arrays["split_user"][keep] == 2
    return Problem(x, y, groups, lambda: Reader(15_000, x.shape[1], 2), epochs=4, unseen=unseen)


def mnist() -> Problem:
    """Return 10,000 of MNIST's digits, groups by class."""
    arrays = np.load(DATA / "mnist_bingo_pair.npz", allow_pickle=False)
    digit = arrays["label"]
    return images(arrays["x"][..., None], digit, {"class": digit}, partial(mlp, 28 * 28), epochs=40)


def images(
    pixels: NDArray[np.uint8],
    y: NDArray[Any],
    groups: dict[str, NDArray[Any]],
    build: Callable[[int], nn.Module],
    *,
    epochs: int = 10,
) -> Problem:
    """Return images of shape (n, height, width, channels) with values in [-1, 1]."""
    x = (torch.from_numpy(pixels).float() / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(y.astype(np.int64))
    classes = int(labels.max()) + 1
    named = {column: values.astype(str) for column, values in groups.items()}
    return Problem(x, labels, named, lambda: build(classes), epochs=epochs, margin=0.05)


TABLES: dict[str, Callable[[], Problem]] = {
    "law_school": lambda: table("law_school", ("race", "sex"), ("race", "sex")),
    "bank": lambda: table("bank", ("age_25_60", "marital"), ("age_25_60", "duration")),
    "adult": lambda: table("adult", ("race", "sex"), ("race", "sex", "fnlwgt", "split")),
    "compas": lambda: table(
        "compas",
        ("race", "sex"),
        ("race", "sex", "decile_score", "score_text", "v_decile_score", "propublica_filter"),
        where="propublica_filter",
    ),
}


def learn(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    seed: int,
    masks: Masks | None = None,
    weight: Tensor | None = None,
) -> None:
    """Train as a user would: Adam, the zeros of a pruned net kept, labels perhaps weighted by class (shape (K,))."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    enforce = masks.enforcer(net) if masks else lambda: None
    net.train()
    for epoch in range(epochs):
        for index in shuffled(len(y), 128, seed=seed, epoch=epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[index]), y[index], weight).backward()
            optimiser.step()
            enforce()
    net.eval()
