"""Train a small convolutional network on UTKFace (gender) or CIFAR-10, prune it, and leave files for `fairguard check`.

    python examples/vision/train.py cifar10 OUT

The data's folder is taken from FAIRGUARD_DATA. OUT gets dense.pt, pruned.pt, test.npz (images that training never saw)
and a fairguard.toml, so that `cd OUT && fairguard check dense.pt pruned.pt` works. Two minutes on two cores.
"""

import argparse
import os
import shutil
from pathlib import Path

import images
import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
DATA = Path(os.environ.get("FAIRGUARD_DATA", HERE.parents[2] / "shared" / "data"))
BUILD = {"utkface": images.build_utkface, "cifar10": images.build_cifar10}


def rows_of(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return training and test arrays by name; `*_names` arrays name the codes and belong to both."""
    with np.load(DATA / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    names = {key: arrays.pop(key) for key in ("race_names", "gender_names", "classes") if key in arrays}
    split = arrays.pop("split")
    if name == "utkface":  # small children's faces do not show their gender
        grown = arrays["age"] >= 10
        arrays, split = {key: value[grown] for key, value in arrays.items()}, split[grown]
    train, test = ({key: value[rows] for key, value in arrays.items()} for rows in (split == 0, split != 0))
    return {**train, **names}, {**test, **names}


def trained(model: nn.Module, x: torch.Tensor, y: torch.Tensor, *, epochs: int) -> nn.Module:
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    steps = epochs * (len(y) // 128 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        for rows in torch.randperm(len(y)).split(128):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def pruned(state: dict[str, torch.Tensor], sparsity: float) -> dict[str, torch.Tensor]:
    """Zero the smallest of all convolution and linear weights, one threshold for all layers."""
    sizes = torch.cat([weight.abs().flatten() for weight in state.values() if weight.dim() > 1])
    cut = sizes.kthvalue(int(sparsity * len(sizes))).values
    return {name: w * (w.abs() > cut) if w.dim() > 1 else w for name, w in state.items()}


SETTINGS = {
    "utkface": 'label = "gender"\ngroups = ["race"]\n',
    "cifar10": 'label = "label"\ngroups = ["class"]\n',
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(BUILD))
    parser.add_argument("out", type=Path)
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    train, test = rows_of(options.name)
    label = "gender" if options.name == "utkface" else "label"
    x, y = images.scale(train["X"]), torch.from_numpy(train[label].astype(np.int64))
    model = trained(BUILD[options.name](), x, y, epochs=options.epochs)
    torch.save(model.state_dict(), options.out / "dense.pt")
    torch.save(pruned(model.state_dict(), options.sparsity), options.out / "pruned.pt")
    np.savez(options.out / "test.npz", **test)
    shutil.copy(HERE / "images.py", options.out / "images.py")
    head = f'model = "images.py:build_{options.name}"\ntransform = "images.py:scale"\ndata = "test.npz"\n'
    (options.out / "fairguard.toml").write_text(head + SETTINGS[options.name])
    print(f"{len(y):,} training and {len(test['X']):,} test images")
    print(f"now: cd {options.out} && fairguard check dense.pt pruned.pt")


if __name__ == "__main__":
    main()
