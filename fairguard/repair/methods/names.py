"""What there is to say of each method without running it. Imports nothing, so that ``--help`` needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

ONE_SHOT = "one-shot"
"""Prune's method that is none of repair's: the smallest weights become zero, at once, and nothing is trained."""


@dataclass(frozen=True)
class Traits:
    """A method as whoever chooses one sees it.

    Attributes:
        sentence: what it does.
        least: epochs that it trains for at least. A mask that tightens needs one to do it in and one to train under
            what is left; a ticket needs an early epoch, a round and the ticket's own; 0: it does not train.
        heeds_reference: whether ``--reference equal`` changes how it trains.
        trades: whether the trade-offs of ``--frontier`` do.
        trains_weights: whether the weights that live learn; otherwise they are dense's, random, or set in one step.
        keeps_patterns: whether it can keep N:M, whole filters and units; otherwise it refuses them in one line.
        spends: why it may spend more or less than its budget.
    """

    sentence: str
    least: int = 1
    heeds_reference: bool = False
    trades: bool = False
    trains_weights: bool = True
    keeps_patterns: bool = True
    spends: str = "trains whole epochs, each at its own cost"

    @property
    def heeds(self) -> tuple[str, ...]:
        """Return the options that let it find something else, of those that give it more to do."""
        return (*(["--budget"] if self.least else []), *(["--frontier"] if self.trades else []))


METHODS = {
    "ballot": Traits("learns a fair mask with the weights, under the constraint (the default)", 2, True, True),
    "keep-mask": Traits("keeps PRUNED's mask and retrains under the constraint", 2, True, True),
    "mask-only": Traits(
        "moves the mask and leaves dense's weights as they are",
        trains_weights=False,
        spends="casts 3 votes for its mask, each for 10 % of the budget at most, and trains no weight",
    ),
    "magnitude": Traits("keeps the largest weights, gradually, then fine-tunes", 2),
    "lth": Traits("lottery tickets: prune a fifth, rewind, train, again", 3),
    "ceag": Traits("gradual magnitude pruning under the constraint", 2, True, True),
    "ballot-lastlayer": Traits("votes in the last layer alone (ablation)"),
    "fairscratch": Traits("frozen random weights, learned mask", trains_weights=False, keeps_patterns=False),
    "bilevel": Traits("mask and weights learned together, in one run", keeps_patterns=False),
    "safecompress": Traits("drop and grow, candidates chosen by the fairness check on the tune rows", 2),
    "chita": Traits(
        "one shot: Fisher selection and closed-form update, no retraining",
        0,
        trains_weights=False,
        spends="takes 256 gradients of 16 rows each at most and trains nothing, however large the budget",
    ),
    "bias-shift": Traits("moves the last layer's biases toward equal class recall", 0, True, trains_weights=False),
}
"""Repair's methods and prune's, the default first. Each is the module of its name, with ``_`` for ``-``."""

HEEDS_REFERENCE = tuple(name for name, traits in METHODS.items() if traits.heeds_reference)
