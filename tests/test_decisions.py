"""From scores to answers: argmax, thresholds, margins and confidences."""

import numpy as np
import pytest

from fairguard.decisions import check_finite, classes_of, confidences_of, margins_of, rule_for
from fairguard.errors import ModelError
from fairguard.inputs.predictor import ScoreKind


def rule(scores: np.ndarray, **options: object):
    return rule_for(scores, ScoreKind.SCORES, name="m", **{"threshold": None, "n_classes": None, **options})


def test_many_logits_answer_by_argmax_and_ties_go_to_the_lower_class() -> None:
    scores = np.array([[0.1, 2.0, 1.0], [3.0, 3.0, 1.0]])
    assert classes_of(scores, rule(scores)).tolist() == [1, 0]
    assert margins_of(scores, rule(scores)).tolist() == pytest.approx([1.0, 0.0])


def test_two_logits_equal_argmax_for_every_order() -> None:
    scores = np.random.default_rng(0).normal(size=(500, 2)).round(1)
    assert (classes_of(scores, rule(scores)) == scores.argmax(axis=1)).all()


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_logit_is_cut_at_zero_and_one_probability_at_a_half(shape: tuple[int, ...]) -> None:
    logits = np.array([-2.0, -0.1, 0.1, 2.0]).reshape(shape)
    assert classes_of(logits, rule(logits)).tolist() == [0, 0, 1, 1]
    probabilities = np.array([0.1, 0.4, 0.6, 0.9]).reshape(shape)
    assert classes_of(probabilities, rule(probabilities)).tolist() == [0, 0, 1, 1]
    assert classes_of(probabilities, rule(probabilities, threshold=0.7)).tolist() == [0, 0, 0, 1]


def test_confidences_are_the_softmax_of_the_answer() -> None:
    scores = np.array([[1.0, 3.0, 2.0], [50.0, -50.0, 0.0]])
    expected = np.exp(scores).max(axis=1) / np.exp(scores).sum(axis=1)
    assert confidences_of(scores, rule(scores)) == pytest.approx(expected)
    shares = np.array([[0.2, 0.8], [0.5, 0.5]])
    assert confidences_of(shares, rule(shares)) == pytest.approx([0.8, 0.5])


def test_recorded_labels_have_no_margin() -> None:
    labels = np.array([0, 2, 1])
    found = rule_for(labels, ScoreKind.LABELS, name="m", threshold=None, n_classes=3)
    assert classes_of(labels, found).tolist() == [0, 2, 1]
    assert np.isnan(margins_of(labels, found)).all()


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_whole_numbers_of_a_model_are_its_answers(shape: tuple[int, ...]) -> None:
    """A network that ends in an argmax: one number a row, which is no score of a favourable class."""
    answers = np.array([0, 2, 1, 2]).reshape(shape)
    found = rule(answers, n_classes=3)
    assert found.n_classes == 3
    assert classes_of(answers, found).tolist() == [0, 2, 1, 2]
    assert classes_of(answers == 2, rule(answers == 2)).tolist() == [0, 1, 0, 1]
    assert rule(answers - 1).threshold == 0  # below zero: eight-bit scores
    assert rule(answers, threshold=1.0).threshold == 1
    with pytest.raises(ModelError, match="gave class numbers at first and -1 for row 70"):
        check_finite(answers - 1, found, name="m", row=lambda at: 70 + at)


def test_nan_names_its_row() -> None:
    scores = np.zeros((5, 2))
    scores[3, 1] = np.nan
    with pytest.raises(ModelError, match="m gives nan or infinity for row 3"):
        rule(scores)
    with pytest.raises(ModelError, match="row 103"):
        check_finite(scores, rule(np.zeros((5, 2))), name="m", row=lambda at: 100 + at)


def test_huge_finite_scores_are_no_error() -> None:
    scores = np.full((5, 2), 3e38, dtype=np.float32)
    check_finite(scores, rule(scores), name="m")


def test_probabilities_that_turn_into_logits_are_an_error_not_a_guess() -> None:
    found = rule(np.array([0.2, 0.7]))
    with pytest.raises(ModelError, match="--threshold"):
        check_finite(np.array([0.2, 3.7]), found, name="m", row=lambda at: 7 + at)


@pytest.mark.parametrize("shape", [(4, 3, 2), ()])
def test_other_shapes_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="--output-key"):
        rule(np.zeros(shape))
