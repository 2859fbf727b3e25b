"""The matched attributable fraction finds as many excess flips as were planted; the mode over seeds confirms rows."""

import numpy as np
import pytest

from fairguard.errors import DataError
from fairguard.judge.responsibility import NO_MODE, attributable, identified_exemplars, modal, responsibility


def world(seed: int, *, planted: float) -> dict[str, np.ndarray]:
    """Rows whose background flips depend on the margin, of which the group has more of the fragile kind."""
    rng = np.random.default_rng(seed)
    n = 30_000
    member = rng.random(n) < 0.2
    strata = np.minimum((rng.beta(np.where(member, 1.0, 2.0), 1.5) * 10).astype(int), 9)
    at_risk = rng.random(n) < 0.85
    background = at_risk & (rng.random(n) < 0.25 * np.exp(-strata / 2))
    extra = at_risk & member & ~background & (rng.random(n) < planted)
    return {"strata": strata, "member": member, "at_risk": at_risk, "background": background, "extra": extra}


@pytest.mark.parametrize("planted", [0.03, 0.06, 0.12])
def test_the_sum_recovers_the_planted_excess(planted: float) -> None:
    shares, truth = [], []
    for seed in range(8):
        w = world(seed, planted=planted)
        r = responsibility(w["strata"], member=w["member"], harmed=w["background"] | w["extra"], at_risk=w["at_risk"])
        shares.append(r.sum())
        truth.append(w["extra"].sum())
    assert np.mean(shares) == pytest.approx(np.mean(truth), rel=0.1)


def test_planted_flips_rank_above_background_flips() -> None:
    w = world(1, planted=0.06)
    r = responsibility(w["strata"], member=w["member"], harmed=w["background"] | w["extra"], at_risk=w["at_risk"])
    extra, background = r[w["extra"]], r[w["background"] & w["member"]]
    above = (extra[:, None] > background).mean() + 0.5 * (extra[:, None] == background).mean()
    assert above > 0.75  # a share of the whole group, unmatched, would be 0.5


def test_equal_treatment_leaves_little_responsibility() -> None:
    w = world(2, planted=0.0)
    r = responsibility(w["strata"], member=w["member"], harmed=w["background"], at_risk=w["at_risk"])
    assert r.sum() < 0.1 * (w["background"] & w["member"]).sum()


def test_rows_outside_the_group_and_unflipped_rows_have_none() -> None:
    w = world(3, planted=0.06)
    harmed = w["background"] | w["extra"]
    r = responsibility(w["strata"], member=w["member"], harmed=harmed, at_risk=w["at_risk"])
    assert not r[~w["member"] | ~harmed].any()


def test_cells_with_counts_answer_as_their_rows_do() -> None:
    w = world(4, planted=0.06)
    harmed = w["background"] | w["extra"]
    rows = np.column_stack([w["strata"], w["member"], harmed, w["at_risk"]]).astype(int)
    cells, place, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    by_row = responsibility(w["strata"], member=w["member"], harmed=harmed, at_risk=w["at_risk"])
    by_cell = responsibility(cells[:, 0], member=cells[:, 1], harmed=cells[:, 2], at_risk=cells[:, 3], counts=counts)
    np.testing.assert_allclose(by_cell[place.ravel()], by_row)


def test_an_empty_stratum_of_the_rest_is_no_proof() -> None:
    assert 0.0 <= attributable([3], [10], [0], [0])[0] < 1.0


def test_mode_is_the_most_frequent_class_and_ties_have_none() -> None:
    votes = [[0, 1, 2], [0, 1, 1], [1, 1, 0], [2, 0, 1]]
    assert modal(votes, classes=3).tolist() == [0, 1, 1]
    assert modal([[0, 1], [1, 1]], classes=2).tolist() == [NO_MODE, 1]


def test_confirmed_rows_are_those_most_pruned_models_lose() -> None:
    y, dense = [1, 1, 1, 0], [[1, 1, 0, 0]]
    pruned = [[0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]]
    assert identified_exemplars(y, dense, pruned, classes=2).tolist() == [True, False, False, False]


def test_four_pruned_models_confirm_nothing() -> None:
    with pytest.raises(DataError, match="4 pruned models given"):
        identified_exemplars([1], [[1]], [[0]] * 4, classes=2)
