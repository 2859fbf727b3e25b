"""The proof: the candidate's own file, opened as anyone would open it, judged on rows that nothing saw."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from statistics import NormalDist

import torch

from fairguard.checking import count, decide
from fairguard.config import Settings, merged
from fairguard.errors import ModelError
from fairguard.inputs.models import RowByRow
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.rows import Source
from fairguard.inputs.torch_models import TorchPredictor
from fairguard.judge.intervals import beyond
from fairguard.metrics import Metric
from fairguard.opening import open_model, open_pruned
from fairguard.repair.guards import broken_guards, gave_up_classes, right_by_class
from fairguard.repair.label_weights import foreign_notes
from fairguard.repair.neighbours import is_list
from fairguard.repair.places import Places, opened_as
from fairguard.repair.task import Candidate, Task
from fairguard.repair.telling.record import Broken, Result, finding_key, unproven
from fairguard.repair.writing import write_like, written_sparsity
from fairguard.report.wording import finding_name, percent, points
from fairguard.verdict import Outcome, Verdict

RATES = (Metric.ACCURACY, Metric.RECALL, Metric.FPR, Metric.SELECTION_RATE)
"""Metrics whose loss against dense is that against PRUNED plus PRUNED's own."""
WORSE = 0.01
"""Chance that a finding is said to have become worse where it has not, or FAIR to be the more accurate."""
BY_HEART = 0.03
"""Accuracy that dense must lose from the tune rows to the verify rows to be told: less hides little."""


OVERLEARNED = 0.02
"""Accuracy that dense must lose from the rows to train on to the verify rows for it to be told that it may cost FAIR
accuracy to be held near dense; in noise it must be beyond chance too."""


@dataclass(frozen=True, eq=False)
class Proof:
    """What the verify rows say.

    Attributes:
        before: dense against PRUNED.
        after: dense against the candidate.
        broken: guards that the candidate breaks.
        sparsity: zeros among the stored entries under a mask.
        opened: the candidate, as its file opened.
        bought: whether PRUNED is more accurate than dense for having given up rarer classes.
        worse: findings for which the candidate is worse than PRUNED beyond noise, and than it should be.
    """

    before: Verdict
    after: Verdict
    broken: tuple[Broken, ...]
    sparsity: float
    opened: Predictor
    bought: bool = False
    worse: tuple[str, ...] = ()

    @property
    def result(self) -> Result:
        """Return how the repair ended.

        Repaired is what had regressed and is proven preserved: a group that had rows enough to be called regressed is
        not excused as too small to certify. Better is who is nearer to the proof, also where nothing regresses any
        more: answers that flip more hide a harm as well as ones that mend it.
        """
        if self.broken or self.after.outcome is Outcome.REGRESSED:
            return Result.NOT_REPAIRED
        if self.after.outcome is Outcome.PRESERVED and not unproven(self.before, self.after):
            return Result.REPAIRED
        return Result.UNPROVEN if _missing(self.after) < _missing(self.before) else Result.NOT_REPAIRED


def prove(
    candidate: Candidate,
    task: Task,
    files: Places,
    models: tuple[Predictor, Predictor],
    rows: Source,
    settings: Settings,
    *,
    floor: float,
) -> Proof:
    """Write the candidate to its file and return what the verify ``rows`` say of that file.

    Args:
        candidate: what the method gave.
        task: what was asked of it.
        files: where to write, in which kind of file, and where that will lie if it is worth it.
        models: dense and PRUNED.
        rows: rows that nothing saw.
        settings: the check's.
        floor: overall accuracy that may be lost against PRUNED, or against dense where PRUNED bought its own.
    """
    write_like(files.like, files.candidate, candidate.weights, candidate.masks)
    found = _opened(files.candidate, files.like, task, settings)
    found = replace(found, info=found.info.model_copy(update={"path": str(files.output)}))
    sparsity = written_sparsity(found.module.state_dict(), candidate.masks, asked=task.masks)
    fair: Predictor = RowByRow(found) if settings.per_row else found
    pairs = (models, (models[0], fair), (models[1], fair))
    counted = [count(*pair, rows, settings=settings, stand_in=pair[0] is models[1]) for pair in pairs]
    before, after, against_pruned = (decide(found, settings) for found in counted)
    bought = gave_up_classes(*right_by_class(counted[0].comparison.counts), floor=floor)
    broken = broken_guards(against_pruned, after, floor=floor, bought=bought, before=before)
    return Proof(before, after, broken, sparsity, fair, bought, worsened(before, after, against_pruned))


def worsened(before: Verdict, after: Verdict, change: Verdict) -> tuple[str, ...]:
    """Return the findings, worst first, that the candidate made worse beyond noise and whose group now loses more.

    What an excess drop became is the excess drop of the candidate against PRUNED, as both are differences of rates: its
    own interval says how much of it is noise. Shares of flips are no such rates.
    """
    old, new = ({finding_key(f): f for f in verdict.findings} for verdict in (before, after))
    level = after.policy.alpha if isnan(after.level) else after.level
    limit, usual = (NormalDist().inv_cdf(1 - chance) for chance in (WORSE, level))
    found = []
    for finding in change.findings:
        key = finding_key(finding)
        noise = (finding.interval[1] - finding.estimate) / usual
        if finding.metric not in RATES or key not in old or key not in new or not finding.estimate > limit * noise:
            continue
        if new[key].tested and new[key].estimate > 0:
            found.append((new[key], old[key]))
    found.sort(key=lambda pair: -pair[0].estimate)
    return tuple(
        f"{finding_name(now)} {points(now.estimate)} (n={now.n:,}, before {points(then.estimate)})"
        for now, then in found
    )


def strange_notes(task: Task, unseen: tuple[float, int]) -> list[str]:
    """Return a sentence if dense is right far less often on the rows to train on than on so many unseen ones."""
    return foreign_notes((float(task.before[0].hits[:, 0].mean()), len(task.train)), unseen)


def outdone_notes(proof: Proof) -> list[str]:
    """Return a sentence if the candidate is right more often than dense, which it is held near, beyond noise.

    What dense lacks is then to be gained, by training that does not hold on to it. Not where PRUNED gave up classes.
    """
    rows = proof.after.overall
    limit = NormalDist().inv_cdf(1 - WORSE)
    if proof.bought or not beyond(rows.beneficial_flips, rows.harmful_flips, limit):
        return []
    return [
        f"fair is right on {percent(rows.accuracy.pruned)} of the rows and dense on {percent(rows.accuracy.dense)}: "
        "training for accuracy alone may gain more, for some groups more than for others (--frontier shows it)"
    ]


def overlearned_notes(proof: Proof, task: Task) -> list[str]:
    """Return a sentence if dense is right on the rows to train on far more often than on the rows to verify on.

    Beside them it is less right, and what it answers there is what FAIR learns of neighbours. Where rows have none,
    dense's answers to the rows themselves are their labels then, and cost nothing.
    """
    unseen, n = proof.before.overall.accuracy.dense, proof.before.overall.n
    taught = float(task.before[0].hits[:, 0].mean())
    noise = (taught * (1 - taught) / len(task.train) + unseen * (1 - unseen) / n) ** 0.5
    if proof.bought or not is_list(task.train.x) or taught - unseen <= max(OVERLEARNED, 4 * noise):
        return []
    return [
        f"dense knows the rows to train on by heart (it is right on {percent(taught)} of them, and on "
        f"{percent(unseen)} of those to verify on), and fair is held to its answers: labels alone may give more "
        "accuracy, for more flips (--frontier shows it)"
    ]


def by_heart_notes(proof: Proof, task: Task) -> list[str]:
    """Return a sentence if dense is right on the tune rows far more often than on the rows to verify on.

    Not where the repair succeeded all the same.
    """
    before = proof.before
    if proof.result is Result.REPAIRED:
        return []
    tuned, n = float(task.before[1].hits[:, 0].mean()), len(task.tune)
    unseen = before.overall.accuracy.dense
    noise = (tuned * (1 - tuned) / n + unseen * (1 - unseen) / before.overall.n) ** 0.5
    if tuned - unseen <= max(BY_HEART, 4 * noise):
        return []
    return [
        f"dense is right on {percent(tuned)} of the rows to tune on and on {percent(unseen)} of those to verify on: it "
        "knows the former by heart, which hides what groups lose; tune on rows that it never saw (--tune FILE)"
    ]


def bought_notes(proof: Proof) -> list[str]:
    """Return a sentence if PRUNED is the more accurate for having given up classes, which no repair keeps."""
    accuracy = proof.before.overall.accuracy
    if not proof.bought:
        return []
    return [
        f"pruned is right on {percent(accuracy.pruned)} of the rows and dense on {percent(accuracy.dense)} because it "
        "answers common classes where rarer ones are right: a repair that undoes this is held to dense's accuracy"
    ]


def _opened(file: Path, like: str | None, task: Task, settings: Settings) -> TorchPredictor:
    settings = merged(settings, {"per_row": False})
    if like is None:
        net = copy.deepcopy(task.net).cpu()
        net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        found = open_model(net, settings, None)
    else:
        found = open_pruned(opened_as(like, file), settings)
    if not isinstance(found, TorchPredictor):
        raise ModelError(f"internal: the repaired file opened as {found.info.kind}. Report it.")
    return found


def _missing(verdict: Verdict) -> float:
    """Return how far all findings together are from being proven preserved: 0 where all are.

    Not how many are proven: those that PRUNED favours are, at the cost of the others. Not the worst estimate: it would
    be that of whatever group has the fewest rows, and bounds know how much noise is in them.
    """
    return sum(max(0.0, f.interval[1] - f.margin) for f in verdict.findings if f.tested and not isnan(f.interval[1]))
