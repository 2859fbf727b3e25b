"""How often ``preserved`` is false at the margin where few flips are expected: enumerated, not simulated.

Every outcome of a small table is gone through with its probability. Alphas of 0.1 and 0.2 show what 0.05 only hints at:
the score limit errs by the lumps of the counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, ndtri, xlogy
from scipy.stats import binom

from fairguard.dtypes import FloatArray
from fairguard.judge.evidence import CERTAIN
from fairguard.judge.intervals import excess_upper, mover
from fairguard.judge.power import Criteria, LossRates, rows_needed, rows_to_certify

Row = dict[str, Any]

ALPHAS = (0.01, 0.05, 0.1, 0.2)
MARGINS = (0.01, 0.02, 0.05)
HUGE = 1e6
"""Rows of a rest that is known all but exactly."""
UNLIKELY = 1e-9
"""Probability of the numbers of rows that are left out at either end."""


LIMITS = ("score limit", "shipped")


class Side(NamedTuple):
    """Shares of rows harmed and helped."""

    harmed: float
    helped: float


class Setting(NamedTuple):
    """A group whose excess is the margin.

    Attributes:
        rest: rows of everybody else for one of the group.
        helped: share of the group's rows.
        gained: share of the margin that is not lost by the group but gained by the rest.
        largest: most rows tried.
    """

    name: str
    rest: float = HUGE
    helped: float = 0.0
    gained: float = 0.0
    largest: int = 6_000


SETTINGS = (
    Setting("harm only"),
    Setting("0.2 % helped", helped=0.002),
    Setting("1 % helped", helped=0.01, largest=2_000),
    Setting("3 % helped", helped=0.03, largest=1_000),
    Setting("harm only, rest of as many rows", rest=1.0),
    Setting("harm only, rest of four times as many", rest=4.0),
    Setting("half of it gained by a rest of as many", rest=1.0, gained=0.5, largest=2_000),
)
SIZES = 80
"""Numbers of rows tried, from just below the fewest that could be certified, denser where fewer."""


def rare_flips(effort: float, _seed: int) -> Iterator[Row]:
    """Yield the largest chance of a false ``preserved`` over margins and numbers of rows, at the margin."""
    for setting in SETTINGS:
        asked = [(n, margin) for margin in MARGINS for n in _sizes(setting, margin, effort)]
        errors = np.stack([_false(setting, n, margin) for n, margin in asked])
        worst = errors.argmax(axis=0)
        for k, alpha in enumerate(ALPHAS):
            row: Row = {"world": setting.name, "alpha": alpha, "sizes": len(asked)}
            for i, limit in enumerate(LIMITS):
                n, margin = asked[worst[i, k]]
                row |= {limit: float(errors[worst[i, k], i, k]), f"{limit}, rows": n, f"{limit}, margin": margin}
            yield row


def cleared(_effort: float, _seed: int) -> Iterator[Row]:
    """Yield the chance of ``preserved`` without excess, with the rows that a plan asks for: what the promise costs."""
    for churn in (0.08, 0.02, 0.005):
        for margin in (0.02, 0.05):
            for alpha in (0.05, 0.2):
                side, z = Side(churn / 2, churn / 2), float(-ndtri(alpha))
                known, criteria = _rates(HUGE, churn=churn), Criteria(margin, z, z)
                n = int(np.ceil(max(rows_needed(known, criteria), rows_to_certify(known, criteria))))
                old, new = _below(side, n, Side(0.0, 0.0), n * HUGE, margin, [alpha])[:, 0]
                yield {"churn": churn, "margin": margin, "alpha": alpha, "rows": n} | dict(
                    zip(LIMITS, (float(old), float(new)), strict=True)
                )


def _sizes(setting: Setting, margin: float, effort: float) -> list[int]:
    z = float(-ndtri(CERTAIN))
    fewest = 0.88 * float(rows_to_certify(_rates(setting.rest), Criteria(margin, z, z)))
    sizes = SIZES if setting.helped == 0 else SIZES // 4
    some = np.geomspace(fewest, max(setting.largest, 3 * fewest), max(int(sizes * min(effort, 1.0)), 4))
    return sorted({int(np.ceil(n)) for n in some})


def _rates(rest: float, *, churn: float = 0.0) -> LossRates:
    """Return the rates of a group with more rows than matter, as many harmed as helped, by a rest without a flip."""
    return LossRates(*map(np.asarray, (HUGE, rest * HUGE, churn, 0.0, 0.0, 0.0)))


def _false(setting: Setting, n: int, margin: float) -> FloatArray:
    """Return the chances that each limit rules out an excess that is there, by alpha."""
    gained = setting.gained * margin
    group, rest = Side(margin - gained + setting.helped, setting.helped), Side(0.0, gained)
    return _below(group, n, rest, max(round(setting.rest * n), 20), margin, ALPHAS)


def _below(group: Side, n: float, rest: Side, n_rest: float, margin: float, alphas: Sequence[float]) -> FloatArray:
    """Return the chances that each limit lies below the margin, shape (2, alphas)."""
    b, c, chance = _outcomes(group, n)
    b_rest, c_rest, chance_rest = _outcomes(rest, n_rest)
    z = -ndtri(np.reshape(alphas, (-1, 1, 1)))
    every = np.broadcast_to(b[:, None], (len(z), len(b), len(b_rest)))
    counts = (every, c[:, None], n, b_rest, c_rest, n_rest)
    limits = np.stack([mover(*counts, z)[1], excess_upper(*counts, z)])
    return np.asarray((limits < margin) @ chance_rest @ chance)


def _outcomes(side: Side, n: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return rows harmed and helped in all likely outcomes, and their probabilities, each of shape (K,)."""
    harmed, helped = (
        np.arange(binom.ppf(UNLIKELY, n, share), binom.isf(UNLIKELY, n, share) + 1) if share else np.zeros(1)
        for share in side
    )
    b, c = (flat.ravel() for flat in np.meshgrid(harmed, helped, indexing="ij"))
    kept = n - b - c
    possible = kept >= 0
    b, c, kept = b[possible], c[possible], kept[possible]
    orders = gammaln(n + 1) - gammaln(b + 1) - gammaln(c + 1) - gammaln(kept + 1)
    chance = np.exp(orders + xlogy(b, side.harmed) + xlogy(c, side.helped) + xlogy(kept, 1.0 - sum(side)))
    return b, c, np.asarray(chance)
