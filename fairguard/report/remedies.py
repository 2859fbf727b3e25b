"""What helps a model that repair cannot help: its weights are hidden, or have no zeros to move. Sees infos only."""

from __future__ import annotations

from fairguard.verdict import ModelInfo

GENTLER = (
    "quantise it otherwise (calibrate on rows of every group, a scale per channel, the most sensitive layers left in "
    "float), or train it quantisation-aware"
)
"""What to do where quantising is what made a model unfair."""
RETRAIN = "compress it less, or train it further"
NO_ZEROS = f"{RETRAIN}: no weight was pruned to zero, so that repair has none to move"


def instead_of_repair(dense: ModelInfo, pruned: ModelInfo) -> str:
    """Return what to do instead of a repair, which these two models do not allow; empty where they do.

    Args:
        dense: what is known of the model before compression.
        pruned: of the one after it.
    """
    kinds = {dense.kind, pruned.kind}
    if any(kind.endswith("predictions") for kind in kinds):
        return "repair the model itself, from its weights: fairguard repair"
    integers = any(word in layer.dtype for layer in pruned.layers for word in ("int", "float8", "float4"))
    if integers or (dense.layers and not pruned.layers):  # what TorchScript and torch.export hide is quantised
        return GENTLER
    if "ONNX" in kinds:  # the names of exported weights are the exporter's: zeros are compared over all
        more = not dense.sparsity >= pruned.sparsity
        return "repair the network that was exported, from its weights: fairguard repair" if more else NO_ZEROS
    return _without_zeros(dense, pruned)


def _without_zeros(dense: ModelInfo, pruned: ModelInfo) -> str:
    before, after = ({layer.name: layer for layer in model.layers} for model in (dense, pruned))
    if {name: layer.shape for name, layer in before.items()} != {name: layer.shape for name, layer in after.items()}:
        return f"{RETRAIN}: repair moves zeros between dense's own weights, and this is another network"
    if any(layer.sparsity > before[name].sparsity for name, layer in after.items()):
        return ""
    return NO_ZEROS
