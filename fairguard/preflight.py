"""Can these two models be compared on these rows at all? Knows no statistics of fairness and no screen.

Everything here looks at the models' files and at a first sample of rows; it ends in a plan for the pass or in an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.decisions import Rule, check_finite, check_one_scale, classes_of, margins_of, rule_for
from fairguard.errors import DataError, FeaturesError, ModelError
from fairguard.inference import Comparison, DecisionPlan
from fairguard.inputs.groups import CLASS, sorted_names
from fairguard.inputs.joining import join_warnings, require_different, require_ids
from fairguard.inputs.labels import WHOLE
from fairguard.inputs.models import RowByRow
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.recorded import RecordedPredictor
from fairguard.inputs.rows import Batch, Source, take
from fairguard.judge.orders import order_warnings
from fairguard.judge.responsibility import SEEDS
from fairguard.names import listed, seed_roles
from fairguard.suspicions import answer_warnings, file_warnings, scale_warnings
from fairguard.verdict import Noise

SAMPLE = 1_024
"""Rows that are predicted twice before any verdict."""
LARGER_SAMPLE = 8_192
"""Rows predicted twice where the first sample showed that a model disagrees with itself."""
MARGIN_BINS = 20
SELF_FLIP_LIMIT = 0.1
"""A model whose answers change with the batch for more than this share of its flips cannot be judged."""


@dataclass(frozen=True)
class Preflight:
    """What the pass needs to know, and what the reader should."""

    plan: DecisionPlan
    warnings: tuple[str, ...]
    noise: tuple[Noise, ...]


def preflight(
    dense: Predictor,
    pruned: Predictor,
    source: Source,
    *,
    batch_size: int,
    threshold: float | None = None,
    seeds: Sequence[Predictor] = (),
    stand_in: bool = False,
) -> Preflight:
    """Return the plan for comparing two models on ``source``, warnings, and how far each model disagrees with itself.

    Args:
        dense: the model that is compared with.
        pruned: the model that is judged.
        source: the rows.
        batch_size: rows at a time.
        threshold: cut of a single output.
        seeds: models pruned from other seeds.
        stand_in: another model stands in dense's place, which may give one answer to every row.

    Raises:
        ModelError: other class counts, outputs that are not finite or of another shape, too few seeds or one twice,
            answers without ids beside others with, or a dense model that gives one answer to every row.
        DataError: no rows, or labels that are none of the models' classes.
    """
    require_ids((dense, pruned, *seeds), source)
    sample = _first_rows(source, batch_size, SAMPLE)
    if 0 < len(seeds) < SEEDS:
        raise ModelError(f"{len(seeds)} seeds given, but a flip is confirmed by at least {SEEDS}: give more --seeds.")
    roles = (*_roles(dense, pruned), *zip(seed_roles(len(seeds)), seeds, strict=True))
    asked = [_ask(role, model, sample, source) for role, model in roles]
    require_different([role for role, _ in roles], [model for _, model in roles], [each.scores for each in asked])
    rules = _same_scale(tuple(_rule(each, source, threshold) for each in asked), asked, threshold)
    names = _names((dense, pruned, *seeds), source)
    rules = _same_classes(rules, roles, names)
    classes = _classes(names, rules[0].n_classes, source.found)
    plan = DecisionPlan(rules, classes, _relabel(names, classes), _edges(asked[0], rules[0]))
    if source.columns and not stand_in:  # whoever asks about rows of their own making has none, and judges nothing
        _refuse_constant(asked[0], plan, source, batch_size, threshold)
    noise = [_self_consistency(each, rule, source, batch_size) for each, rule in zip(asked[:2], rules, strict=False)]
    warnings = (
        *file_warnings(dense, pruned),
        *scale_warnings(rules, threshold),
        *_reach_warnings(asked[:2], threshold),
    )
    return Preflight(plan, warnings, tuple(found for found in noise if found is not None))


def pass_warnings(models: Sequence[Predictor], comparison: Comparison, ready: Preflight) -> tuple[str, ...]:
    """Return the warnings that only the whole pass can give.

    Raises:
        ModelError: a model's answers depend on the batch they were asked in, too often to tell its flips from chance;
            a file of answers has answers for other rows too; or pruned has its classes in another order.
    """
    table = comparison.counts
    recorded = [model for model in models if isinstance(model, RecordedPredictor)]
    warnings = [line for model in recorded for line in join_warnings(model, table.n)]
    flips = int(table.counts[table.dense != table.pruned].sum())
    roles = dict(_roles(*models[:2]))
    for found in ready.noise:
        model = roles[found.model]
        if found.changed / found.rows > SELF_FLIP_LIMIT * flips / table.n:
            raise ModelError(
                f"the {found.model} model is not a function of its row: {found.changed} of {found.rows} answers "
                f"changed with the batch size and order, against {flips} flips in {table.n} rows. {_remedy(model)}"
            )
    rule = ready.plan.rules[1]
    by_place = rule.kind is ScoreKind.SCORES and not rule.single and models[1].classes is None
    return (*warnings, *(order_warnings(table) if by_place else ()), *answer_warnings(models[0], comparison))


def _remedy(model: Predictor) -> str:
    if isinstance(model, RowByRow):
        return (
            "Each row was asked for alone already: is something in its forward drawn at random, or kept between calls?"
        )
    return "Use static or per-row quantisation, or judge one row at a time with --per-row."


def _roles(dense: Predictor, pruned: Predictor) -> tuple[tuple[str, Predictor], tuple[str, Predictor]]:
    return ("dense", dense), ("pruned", pruned)


def _first_rows(source: Source, batch_size: int, at_least: int) -> list[Batch]:
    batches: list[Batch] = []
    for batch in source.batches(min(batch_size, at_least)):
        batches.append(batch)
        if sum(map(len, batches)) >= at_least:
            break
    if not sum(map(len, batches)):
        raise DataError("the data has no rows; give rows that the model was not trained on.")
    return batches


@dataclass(frozen=True)
class _Asked:
    """A model, and its scores for the first rows."""

    role: str
    model: Predictor
    batches: list[Batch]
    scores: list[NDArray[Any]]

    @classmethod
    def of(cls, role: str, model: Predictor, batches: list[Batch]) -> _Asked:
        return cls(role, model, batches, [model.scores(batch) for batch in batches])

    @property
    def one_sided(self) -> bool:
        """Return whether all scores lie on one side of a half."""
        above = np.concatenate(self.scores) > 0.5
        return bool(above.all() or not above.any())


def _ask(role: str, model: Predictor, sample: list[Batch], source: Source) -> _Asked:
    """Return a model's scores for the first rows; where it does not take the features, the error names them."""
    try:
        return _Asked.of(role, model, sample)
    except FeaturesError as error:
        if not source.features or not error.columns:
            raise
        left = [name for name in source.columns if name not in (*source.features, CLASS)]
        beside = f"; groups are left out unless it names them: {listed(left, most=8)}" if left else ""
        label = "" if source.labelled else ", and name the label with --label"
        fed = listed(list(source.features), most=30)
        raise ModelError(f"{error} The features are {fed}: choose them with --features{label}{beside}.") from error


def _rule(asked: _Asked, source: Source, threshold: float | None) -> Rule:
    n_classes = len(source.classes) if source.classes else None
    scores, name = np.concatenate(asked.scores), f"the {asked.role} model"
    rows = sum(map(len, asked.batches))
    if len(scores) != rows:
        raise ModelError(f"{name} gives {len(scores)} answers for {rows} rows; it must give one per row.")
    return rule_for(
        scores, asked.model.kind, name=name, threshold=threshold, n_classes=n_classes, batches=asked.batches
    )


def _same_scale(rules: tuple[Rule, ...], asked: Sequence[_Asked], threshold: float | None) -> tuple[Rule, ...]:
    """Return the rules with one scale for models of one kind.

    The logits of a collapsed network may all lie in [0, 1]; probabilities would lie on both sides of a half.

    Raises:
        ModelError: a threshold is given, and no model has a single output that it could cut, or it would cut logits of
            one and probabilities of another.
    """
    both = list(zip(asked, rules, strict=True))
    if threshold is not None:
        if not any(rule.single for rule in rules):
            raise ModelError("no model has a single output, so --threshold decides nothing; leave it out.")
        cut = {each.role: np.concatenate(each.scores) for each, rule in both if rule.single}
        check_one_scale(cut, threshold)
        return rules
    logits = {each.model.info.kind for each, rule in both if rule.single and not rule.probabilities}
    return tuple(
        replace(rule, threshold=0.0, probabilities=False)
        if rule.single and each.model.info.kind in logits and each.one_sided
        else rule
        for each, rule in both
    )


def _reach_warnings(asked: Sequence[_Asked], threshold: float | None) -> list[str]:
    """Return a warning for each model whose scores look like probabilities, where the cut is none between 0 and 1."""
    if threshold is None or 0 < threshold < 1:
        return []
    warnings = []
    for each in asked:
        scores = np.concatenate(each.scores)
        low, high = scores.min(), scores.max()
        if scores.dtype.kind == "f" and low >= 0 and high <= 1:
            warnings.append(
                f"{each.role}'s scores look like probabilities (from {low:.3g} to {high:.3g}), and --threshold "
                f"{threshold:g} lies outside what they reach."
            )
    return warnings


def _refuse_constant(
    dense: _Asked, plan: DecisionPlan, source: Source, batch_size: int, threshold: float | None
) -> None:
    """Raise :class:`ModelError` if dense gives one answer to every row, but not where all have one label.

    What pruning broke cannot show then. Rows are read on only where the first ones are all answered alike, and only up
    to the first that is not.
    """
    rule, name = plan.rules[0], dense.model.info.path or "the dense model"
    answers = classes_of(np.concatenate(dense.scores), rule)
    if (answers != answers[0]).any():
        return
    rows, low, high, labels = 0, np.inf, -np.inf, set[int]()
    for batch in source.batches(batch_size):
        scores = dense.model.scores(batch)
        check_finite(scores, rule, name=name, row=batch.row, batches=[batch])
        if (classes_of(scores, rule) != answers[0]).any():
            return
        rows, low, high = rows + len(scores), min(low, scores.min()), max(high, scores.max())
        labels |= set() if batch.y is None else {*np.unique(batch.y).tolist()}
    if len(labels) == 1:  # rows of one class, for its recall: dense finds all of them, or none
        return
    told = f"dense answers {plan.classes[answers[0]]!r} for every row ({rows:,} rows), so nothing can be judged"
    if not rule.single:
        raise ModelError(f"{told}: are the model and the preprocessing the right ones, and rows of every class there?")
    side, cut = "all" if low > rule.threshold else "none", "the cut at" if threshold is None else "--threshold"
    usual = "" if threshold is None or 0 < threshold < 1 or low < 0 or high > 1 else " between 0 and 1"
    raise ModelError(
        f"{told}: its scores lie between {low:.3g} and {high:.3g}, {side} above {cut} {rule.threshold:g}. Name a cut "
        f"that parts them with --threshold{usual}, or correct the preprocessing."
    )


def _names(models: Sequence[Predictor], source: Source) -> tuple[str, ...] | None:
    """Return the names of the data's classes; without labels, of all that the models answer by name."""
    if source.classes is not None:
        return source.classes
    named = {name for model in models for name in model.classes or ()}
    numbers = all(map(WHOLE.fullmatch, named))
    for model in models:
        if model.classes is None and not (named and numbers and _answers_labels(model)):
            return None
        if isinstance(model, RecordedPredictor) and model.classes is None:  # 0 and 1 beside another file's 0 and 70000
            named |= {*map(str, np.unique(model.values).tolist())}
    return tuple(sorted_names(named))


def _answers_labels(model: Predictor) -> bool:
    return isinstance(model, RecordedPredictor) and model.kind is ScoreKind.LABELS


def _same_classes(
    rules: tuple[Rule, ...], roles: Sequence[tuple[str, Predictor]], given: tuple[str, ...] | None
) -> tuple[Rule, ...]:
    """Return the rules over one set of classes; files of answers know only the classes that they happen to hold."""
    known: dict[int, str] = {}
    for (role, _), rule in zip(roles, rules, strict=True):
        if rule.kind is ScoreKind.SCORES:
            known.setdefault(rule.n_classes, role)
    if len(known) > 1:
        (one, first), (other, second), *_ = known.items()
        raise ModelError(f"{first} gives {one} classes and {second} {other}; compare models of one task.")
    recodes = [_recode(model, given) for _, model in roles]
    sizes = [
        rule.n_classes if recode is None else len(given or ()) for rule, recode in zip(rules, recodes, strict=True)
    ]
    n_classes = max(known or sizes)
    return tuple(
        Rule(n_classes, rule.kind, rule.threshold, rule.probabilities, recode)
        for rule, recode in zip(rules, recodes, strict=True)
    )


def _recode(model: Predictor, given: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    """Return the class of each of the model's own codes, where they are not the data's: names are matched."""
    names = _own_names(model, given or ())
    if names is None or given is None or names == given:
        return None
    used = set(np.unique(model.values).tolist()) if isinstance(model, RecordedPredictor) and not model.classes else None
    unknown = [name for code, name in enumerate(names) if name not in given and (not used or code in used)]
    if unknown:
        raise ModelError(
            f"{model.info.path} answers {unknown[0]!r}, which is no label of the data; "
            f"its labels are {listed(list(given), most=10)}. Name all classes with --classes."
        )
    places = {name: place for place, name in enumerate(given)}
    return np.array([places.get(name, 0) for name in names], dtype=np.int64)


def _own_names(model: Predictor, given: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what a model's codes are called: recorded whole numbers are labels, where the labels count otherwise."""
    numbered = all(map(WHOLE.fullmatch, given)) and given != tuple(map(str, range(len(given))))
    if not isinstance(model, RecordedPredictor) or not _answers_labels(model) or model.classes or not numbered:
        return model.classes
    return tuple(map(str, range(int(model.values.max()) + 1)))


def _classes(given: tuple[str, ...] | None, n_classes: int, found: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the models' classes: the data's, or numbers where the data does not name them all."""
    if given is not None and len(given) > n_classes:
        numbers = given == tuple(map(str, range(n_classes + 1)))
        why = "Labels that count from 1 need" if numbers else "If these are all labels there are, name them so:"
        names = given[1:] if numbers else found
        hint = f" {why} --classes {','.join(names)}." if len(names) == n_classes else ""
        raise DataError(
            f"the data has {len(given)} classes ({listed(list(given), most=10)}) and the models give {n_classes}; "
            f"is --label the column that they were trained on?{hint}"
        )
    return given if given is not None and len(given) == n_classes else tuple(str(k) for k in range(n_classes))


def _relabel(given: tuple[str, ...] | None, classes: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Return the class code of each label code, where the labels are numbers and some class has no row."""
    if given is None or given == classes:
        return None
    if not all(name in classes for name in given):
        raise DataError(
            f"the labels are {', '.join(given[:10])} and the models give {len(classes)} classes; "
            f"name the classes in the models' order with --classes."
        )
    return np.array([classes.index(name) for name in given], dtype=np.int64)


def _edges(dense: _Asked, rule: Rule) -> NDArray[np.floating]:
    """Return inner edges that split the sample's dense margins into bins of about equal count."""
    if rule.kind is ScoreKind.LABELS:
        return np.empty(0)
    margins = margins_of(np.concatenate(dense.scores), rule)
    return np.unique(np.quantile(margins, np.arange(1, MARGIN_BINS) / MARGIN_BINS))


def _self_consistency(asked: _Asked, rule: Rule, source: Source, batch_size: int) -> Noise | None:
    """Return how often the model answers otherwise in smaller, shuffled batches; ``None`` for recorded answers."""
    if isinstance(asked.model, RecordedPredictor):
        return None
    found = _ask_again(asked, rule, batch_size)
    if found.changed and found.rows >= SAMPLE:
        larger = _first_rows(source, batch_size, LARGER_SAMPLE)
        found = _ask_again(_Asked.of(asked.role, asked.model, larger), rule, batch_size)
    return found


def _ask_again(asked: _Asked, rule: Rule, batch_size: int) -> Noise:
    changed = ties = 0
    smaller = max(1, batch_size // 3)  # no divisor of usual sizes, so that batches end elsewhere
    rng = np.random.default_rng(0)
    for batch, scores in zip(asked.batches, asked.scores, strict=True):
        order = rng.permutation(len(batch))
        before = scores[order]
        parts = [order[i : i + smaller] for i in range(0, len(order), smaller)]
        after = np.concatenate([asked.model.scores(take(batch, part)) for part in parts])
        moved = classes_of(before, rule) != classes_of(after, rule)
        tied = (margins_of(before, rule) == 0) | (margins_of(after, rule) == 0)
        changed += int((moved & ~tied).sum())
        ties += int((moved & tied).sum())
    return Noise(model=asked.role, rows=sum(map(len, asked.batches)), changed=changed, ties=ties)
