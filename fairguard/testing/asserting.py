"""``assert_fairness_preserved`` for those who want a plain function: unittest, scripts, notebooks."""

from __future__ import annotations

import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from fairguard.errors import FairguardWarning, FairnessInconclusive
from fairguard.testing.checks import Checks
from fairguard.testing.judged import OVERALL
from fairguard.verdict import Outcome, Verdict


def assert_fairness_preserved(dense: Any, pruned: Any, data: Any = None, **options: Any) -> Verdict:
    """Return the verdict that ``pruned`` is as fair as ``dense``; a regression is an ``AssertionError``.

    Where the rows can neither prove nor rule it out, a warning says so and the verdict's outcome is ``inconclusive``.
    What the verdict warns of beside its outcome, a model that fails everybody alike above all, is a warning too.

    Args:
        dense: a model file, a ``torch.nn.Module``, a callable, or recorded answers.
        pruned: the compressed model.
        data: labelled rows, as :func:`fairguard.check` takes them; default the ``data`` of ``[tool.fairguard]``.
        **options: ``label``, ``groups``, ``model``, ``margin``, ... stronger than ``[tool.fairguard]``.

    Raises:
        AssertionError: some group lost more than the rest, by more than the margin and by more than chance.
        FairguardError: nothing could be judged.
    """
    __tracebackhide__ = True  # pytest shows the line that asks, not this function
    given = {"dense": dense, "pruned": pruned} | ({} if data is None else {"data": data})
    judged = Checks(root=Path.cwd()).judged("assert_fairness_preserved", {**options, **given})
    regressed = judged.verdict.outcome is Outcome.REGRESSED
    for sentence in judged.verdict.warnings:
        with suppress(FairguardWarning) if regressed else nullcontext():  # a regression is told alone under -W error
            warnings.warn(sentence, FairguardWarning, stacklevel=2)
    if regressed:
        raise AssertionError(judged.message(OVERALL))
    if judged.verdict.outcome is Outcome.INCONCLUSIVE:
        warnings.warn(judged.doubt(OVERALL), FairnessInconclusive, stacklevel=2)
    return judged.verdict
