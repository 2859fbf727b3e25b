"""The heart: two models, some rows, one verdict. Read this first.

Files come in (inputs), are found comparable (preflight), answer the same rows in one pass (inference), and the counts
of their answers are judged (judge).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from fairguard.acceptance import with_acceptance
from fairguard.config import Settings, merged
from fairguard.errors import ConfigError
from fairguard.flips import FlipsFile, check_flips
from fairguard.in_memory import count_arrays, scores_in
from fairguard.inference import MARGIN, Comparison, FlipSink, compare
from fairguard.inputs.data import require_file
from fairguard.inputs.groups import look_alike
from fairguard.inputs.joining import require_one_order
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.rows import Source
from fairguard.judge.clusters import judge_clustered
from fairguard.judge.counts import CountTable
from fairguard.judge.judge import judge
from fairguard.judge.orders import order_warnings
from fairguard.judge.scatter import CLUSTER, WEIGHT
from fairguard.judge.sensitivity import by_margin, expected_flips
from fairguard.judge.slices import discover
from fairguard.names import seed_roles
from fairguard.opening import computes_in_double, modes_kept, open_models, open_seeds, open_source
from fairguard.policy import Policy
from fairguard.preflight import pass_warnings, preflight
from fairguard.progress import Progress
from fairguard.provenance import record_of
from fairguard.ranks import ALONE, Ranks
from fairguard.suspicions import id_warnings, label_warnings
from fairguard.verdict import ModelInfo, Noise, Verdict


@dataclass(frozen=True)
class Counted:
    """All that a verdict needs of one pass: counts, and what is known of the models and the rows."""

    comparison: Comparison
    models: tuple[ModelInfo, ModelInfo]
    noise: tuple[Noise, ...]
    warnings: tuple[str, ...]
    record: dict[str, Any]


def check(
    dense: Any,
    pruned: Any,
    data: Any = None,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
    **options: Any,
) -> Verdict:
    """Return the verdict on whether ``pruned`` is as fair as ``dense`` on the rows of ``data``.

    Args:
        dense: a model file, a ``torch.nn.Module``, a callable, or recorded answers.
        pruned: the compressed model, of the same or of another kind.
        data: a CSV, Parquet or npz file, ``pkg.module:callable``, arrays ``(X, y, groups)``, a table, or a loader;
            default: the ``data`` of the settings.
        settings: options as a configuration file gives them.
        progress: called as rows are done.
        ranks: the processes that share the rows, each of which has to call this; default: this one has all.
        **options: single options, stronger than ``settings``: ``label``, ``groups``, ``model``, ``margin``, ...

    Raises:
        FairguardError: nothing could be judged; its one line says why and what to do.
    """
    settings = merged(settings or Settings(), options)
    data = settings.data if data is None else data
    require_file(data)
    if settings.flips is not None:
        check_flips(settings.flips, settings.inputs | {"dense": dense, "pruned": pruned, "data": data})
    with FlipsFile.collecting(settings.flips if ranks.first else None) as flips:
        sink = flips.of if settings.flips is not None else None
        counted = count_files(
            dense, pruned, data, settings=settings, search=True, flips=sink, progress=progress, ranks=ranks
        )
        verdict = decide(counted, settings, search=True)
        flips.write(verdict, counted.comparison.margins)
    return verdict


def check_predictions(
    y: Any,
    dense: Any,
    pruned: Any,
    groups: Mapping[str, Any],
    *,
    classes: Sequence[str] | None = None,
    **policy: Any,
) -> Verdict:
    """Return the verdict on two models' answers held in arrays (numpy, pandas or torch).

    Args:
        y: shape (n,), true labels; ``None`` where there are none.
        dense: shape (n,) answers of the dense model, or (n, K) scores.
        pruned: the same of the pruned model.
        groups: sensitive features by name, each of shape (n,).
        classes: names of the classes in the order of the scores' columns; not given: 0, 1, ... if the labels are such
            numbers, else the labels sorted.
        **policy: the options of :class:`Policy`.

    Raises:
        FairguardError: what is given does not fit together; its one line says why and what to do.
    """
    table = count_arrays(y, dense, pruned, groups, classes=classes)
    orders = order_warnings(table) if scores_in(pruned) else ()
    verdict = judge(table, Policy.of(**policy))
    warnings = label_warnings(table, by_position=bool(scores_in(dense)), typed=False)
    return verdict.model_copy(update={"warnings": (*verdict.warnings, *orders, *warnings)})


def count_files(
    dense: Any,
    pruned: Any,
    data: Any,
    *,
    settings: Settings,
    search: bool = False,
    flips: Callable[[Source], FlipSink] | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Counted:
    """Return the counts of two models on the rows of ``data``: opened, counted, and left in the modes they came in.

    Args:
        dense: as for :func:`check`.
        pruned: as for :func:`check`.
        data: as for :func:`check`.
        settings: how to open and count.
        search: whether all that a verdict tells beside its findings is counted too: the seeds' answers, and the
            columns that ``discover`` searches. Who asks for neither judges the groups alone.
        flips: gives what takes the flipped rows, once the rows that they are of are open.
        progress: called as rows are done.
        ranks: the processes that share the rows.

    Raises:
        FairguardError: nothing could be counted.
    """
    with modes_kept(dense, pruned):
        models = open_models(dense, pruned, settings)
        seeds = open_seeds(settings) if search else []
        double = computes_in_double(seeds)  # of the models it is asked anyway
        source = open_source(data, settings, models=models, search=search, double=double)
        sink = None if flips is None else flips(source)
        return count(*models, source, settings=settings, seeds=seeds, flips=sink, progress=progress, ranks=ranks)


def count(
    dense: Predictor,
    pruned: Predictor,
    source: Source,
    *,
    settings: Settings,
    seeds: Sequence[Predictor] = (),
    flips: FlipSink | None = None,
    progress: Progress | None = None,
    stand_in: bool = False,
    ranks: Ranks = ALONE,
) -> Counted:
    """Return the counts of one pass of both models over the rows, found comparable first.

    With ``stand_in`` another model stands in dense's place, and may be worth nothing.
    """
    if settings.classes is None:
        require_one_order(["dense", "pruned", *seed_roles(len(seeds))], (dense, pruned, *seeds))
    batch_size, threshold = settings.batch_size, settings.threshold
    ready = preflight(dense, pruned, source, batch_size=batch_size, threshold=threshold, seeds=seeds, stand_in=stand_in)
    comparison = compare(
        dense,
        pruned,
        source,
        plan=ready.plan,
        batch_size=batch_size,
        seeds=seeds,
        flips=flips,
        progress=progress,
        ranks=ranks,
    )
    comparison = replace(comparison, open=ready.plan.open and settings.classes != ready.plan.classes)
    warnings = (
        *ready.warnings,
        *_reading_warnings(source),
        *id_warnings(source),
        *pass_warnings((dense, pruned, *seeds), comparison, ready),
    )
    record = record_of(dense.info, pruned.info, source.record, settings)
    record["flipped"] = f"{comparison.flipped:016x}"  # says which rows to whoever has them, and to nobody else
    return Counted(comparison, (dense.info, pruned.info), ready.noise, warnings, record)


def _reading_warnings(source: Source) -> Iterator[str]:
    """Yield a warning for rows that are not the same in every reading, such as random crops, or not as often."""
    if source.note:
        yield source.note
    if source.drawn:
        yield "the loader of these rows changes them at random (crops?): judge on rows without; this is on one draw"


def decide(counted: Counted, settings: Settings, *, search: bool = False) -> Verdict:
    """Return the verdict that the settings' policy reaches on the counts, today's acceptances in it.

    With ``search``, what :func:`count_files` counted for it is searched, if the settings say so.
    """
    policy, counts = settings.policy(), counted.comparison.counts
    dependent = bool({CLUSTER, WEIGHT} & set(counts.columns))
    named = counts.columns[: len(settings.groups)] if settings.groups else None  # the rest is there to be searched
    verdict = (judge_clustered if dependent else judge)(counts, policy, groups=named)
    expected = expected_flips(counted.comparison.margins, MARGIN, policy, groups=verdict.columns)
    told = verdict.model_copy(
        update={
            "groups": tuple(r.model_copy(update={"expected_flips": expected[r.group]}) for r in verdict.groups),
            **(_discovered(counted, settings, verdict, dependent=dependent) if search else {}),
            "expected_by_margin": by_margin(counted.comparison.margins, MARGIN),
            **_confirmed(counted, verdict),
            "models": counted.models,
            "noise": counted.noise,
            "warnings": (
                *verdict.warnings,
                *policy.idle_margin_warnings({finding.metric for finding in verdict.findings}),
                *_look_alike_warnings(counts, verdict.columns),
                *counted.warnings,
            ),
            "record": counted.record,
        }
    )
    return with_acceptance(told, settings.accept, today=date.today())


def _confirmed(counted: Counted, verdict: Verdict) -> dict[str, Any]:
    """Return what the seeds add to the verdict; nothing where there are none."""
    found = counted.comparison.confirmed
    if found is None:
        return {}
    return {"confirmed_flips": found.flips, "confirmed_by_chance": found.by_chance(verdict.columns)}


def _look_alike_warnings(counts: CountTable, columns: Sequence[str]) -> Iterator[str]:
    """Yield a warning for every sensitive feature with groups that are perhaps meant to be one."""
    for column, names in zip(counts.columns, counts.levels, strict=True):
        if column in columns and (pair := look_alike(names)):
            first, second = (f"{column}={name}" for name in pair)
            yield f"{first} and {second} look alike and are two groups here: if they are one, make them one in the data"


def _discovered(counted: Counted, settings: Settings, verdict: Verdict, *, dependent: bool) -> dict[str, Any]:
    """Return what a search adds to the verdict; nothing where none is asked for."""
    if not settings.discover:
        return {}
    if dependent:
        raise ConfigError("--discover needs independent rows that count alike; leave out --cluster and --weight.")
    known = {row.group for row in verdict.groups}
    found = discover(counted.comparison.counts, settings.policy(), depth=settings.discover, named=known)
    return {"slices": found.found, "searched": found.searched}
