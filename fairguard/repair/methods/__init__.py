"""Ways to choose and train a sparse model, by name. Each is one file over the shared loop and the shared masks."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from fairguard.errors import ConfigError, did_you_mean
from fairguard.repair.task import Candidate, Task

Method = Callable[[Task], Candidate]

METHODS = {
    "ballot": "learns a fair mask with the weights, under the constraint (the default)",
    "keep-mask": "keeps PRUNED's mask and retrains under the constraint",
    "mask-only": "moves the mask and leaves dense's weights as they are",
    "magnitude": "keeps the largest weights, gradually, then fine-tunes",
    "lth": "lottery tickets: prune a fifth, rewind, train, again",
    "ceag": "gradual magnitude pruning under the constraint",
    "ballot-lastlayer": "votes in the last layer alone (ablation)",
    "fairscratch": "frozen random weights, learned mask",
    "bilevel": "mask and weights learned together, in one run",
    "safecompress": "drop and grow, candidates chosen by the fairness check on the tune rows",
    "chita": "one shot: Fisher selection and closed-form update, no retraining",
    "bias-shift": "moves the last layer's biases toward equal class recall",
}

LEAST = dict.fromkeys(("ballot", "keep-mask", "magnitude", "ceag", "safecompress"), 2)
LEAST |= {"lth": 3, "chita": 0, "bias-shift": 0}
"""Epochs that a method trains for at least, where that is not one: a mask that tightens needs one to do it in and one
to train under what is left; a ticket needs an early epoch, a round and the ticket's own; two methods do not train."""


def method_named(name: str) -> Method:
    """Return the method called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        hint = did_you_mean(name, METHODS) or f" Methods: {', '.join(METHODS)}."
        raise ConfigError(f"unknown repair method {name!r}.{hint}")
    found: Method = import_module(f"fairguard.repair.methods.{name.replace('-', '_')}").select_and_train
    return found
