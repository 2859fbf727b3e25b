"""Small networks trained and pruned in seconds, and the folder that they are left in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairguard.errors import OutputError
from fairguard.files import replacing, write_text

FIRST_WORDS = "# Read by `fairguard check"
"""How the configuration of every demo begins."""


def make_folder(folder: Path) -> None:
    """Make ``folder``; one that is there may be empty or hold an earlier demo, which is written over.

    Raises:
        OutputError: it cannot be made, or holds files that are not a demo's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        settings = folder / "fairguard.toml"
        ours = settings.is_file() and settings.read_text(encoding="utf-8", errors="replace").startswith(FIRST_WORDS)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}. Name another folder.") from None
    if strange and not ours:
        raise OutputError(f"{folder} holds files that are not a demo's, such as {min(strange)}; name another folder.")


def train(model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64], *, epochs: int, seed: int) -> nn.Module:
    """Return ``model`` trained on rows ``x`` of shape (n, F) with class codes ``y`` of shape (n,).

    Weights of matrices that are exactly zero stay so: a pruned network is fine-tuned, not grown back.
    """
    kept = [(weight, weight.detach() != 0) for weight in model.parameters() if weight.dim() > 1]
    generator = torch.Generator().manual_seed(seed)
    features, labels = torch.tensor(x), torch.tensor(y)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    with _one_thread():
        for _ in range(epochs):
            order = torch.randperm(len(labels), generator=generator)
            for rows in torch.split(order, 128):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(features[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                with torch.no_grad():
                    for weight, mask in kept:
                        weight.mul_(mask)
    return model.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: small networks lose nothing, and any number of cores makes the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def prune(state: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Return the state dict with the smallest weights of all matrices set to zero, one threshold for all of them."""
    weights = {name: tensor for name, tensor in state.items() if tensor.dim() > 1}
    sizes = torch.cat([tensor.abs().flatten() for tensor in weights.values()])
    threshold = sizes.kthvalue(max(1, round(sparsity * len(sizes)))).values
    return {name: t * (t.abs() > threshold) if name in weights else t.clone() for name, t in state.items()}


def save_state(state: dict[str, Tensor], path: Path) -> None:
    """Write a plain state dict; the same weights are the same bytes, because no file name gets into the archive."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def save_rows(table: pd.DataFrame, path: Path) -> None:
    """Write rows as Parquet."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def save_sources(folder: Path, *, network: str, settings: str) -> None:
    """Write ``model.py``, which builds the network, and ``fairguard.toml``, which makes the bare command work."""
    write_text(folder / "model.py", dedent(network).lstrip())
    write_text(folder / "fairguard.toml", dedent(settings).lstrip())
