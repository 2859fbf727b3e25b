"""What a verdict warns of beside its outcome reaches those who see no report: a collapse that spares no group."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard import FairguardWarning, Outcome, assert_fairness_preserved

# The runs inside these tests are users' runs: what is an error in this suite is a warning there.
pytestmark = pytest.mark.filterwarnings("always::fairguard.errors.FairguardWarning")

N = 8_000
COLLAPSED = "pruned answers 'no' for every row: it has collapsed, or wants other preprocessing."
FELL = (
    r"overall accuracy fell from 90\.\d % to 50\.\d %: no group lost more than the others beyond the margin, "
    r"but the .* is broken"
)
CHECKED = """
    from fairguard import fairness_preserved

    @fairness_preserved(dense="dense.csv", pruned="pruned.csv", data="rows.csv", label="label", groups="sex")
    def test_pruned_model(): ...
"""


def answers(folder: Path) -> None:
    """Rows of two groups, half of each labelled yes; dense is right on nine of ten, pruned always says no."""
    rng = np.random.default_rng(0)
    label = np.array(["no", "yes"])[np.arange(N) % 2]
    other = np.where(label == "yes", "no", "yes")
    dense = np.where(rng.random(N) < 0.9, label, other)
    pd.DataFrame({"label": label, "sex": rng.choice(["F", "M"], N)}).to_csv(folder / "rows.csv", index=False)
    pd.DataFrame({"prediction": dense}).to_csv(folder / "dense.csv", index=False)
    pd.DataFrame({"prediction": np.full(N, "no")}).to_csv(folder / "pruned.csv", index=False)


def labels_are_groups() -> None:
    """Let all women be labelled yes and all men no: who always says no harms women alone."""
    rows = pd.read_csv("rows.csv")
    rows.assign(sex=np.where(rows["label"] == "yes", "F", "M")).to_csv("rows.csv", index=False)


ROWS = {"data": "rows.csv", "label": "label", "groups": "sex", "margin": 0.06}


def test_the_plain_function_warns_of_a_collapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answers(tmp_path)
    with pytest.warns(FairguardWarning) as heard:
        verdict = assert_fairness_preserved("dense.csv", "pruned.csv", **ROWS, metrics="accuracy")
    assert verdict.outcome is Outcome.PRESERVED, "both groups lost alike"
    assert tuple(str(warning.message) for warning in heard) == verdict.warnings
    assert COLLAPSED in verdict.warnings
    assert any("the pruned model is broken" in sentence for sentence in verdict.warnings)
    assert {warning.filename for warning in heard} == {__file__}, "it is the caller's line that is named"


def test_a_regression_is_still_one_and_the_collapse_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answers(tmp_path)
    labels_are_groups()
    with pytest.warns(FairguardWarning, match="it has collapsed"), pytest.raises(AssertionError, match="sex=F"):
        assert_fairness_preserved("dense.csv", "pruned.csv", **ROWS, metrics="accuracy")


def test_where_warnings_are_errors_a_regression_is_told_first(pytester: pytest.Pytester) -> None:
    answers(pytester.path)
    labels_are_groups()
    with warnings.catch_warnings(action="error"), pytest.raises(AssertionError) as raised:
        assert_fairness_preserved("dense.csv", "pruned.csv", **ROWS, metrics="accuracy")
    assert re.match(r"regressed: .*\n.*sex=F", str(raised.value))
    assert raised.value.__context__ is None, "nothing is told before it"
    pytester.makepyfile(test_fair=CHECKED)
    result = pytester.runpytest_inprocess("-W", "error::fairguard.FairguardWarning", "-k", "overall")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"_+ .*\[overall\] _+", "regressed: .*"], consecutive=True)
    assert "another exception occurred" not in result.stdout.str()


def test_the_plugin_warns_once_on_the_whole_and_not_on_each_group(pytester: pytest.Pytester) -> None:
    answers(pytester.path)
    pytester.makepyfile(test_fair=CHECKED)
    options = 'margin = 0.06\nmetrics = ["accuracy"]\n'
    pytester.makepyprojecttoml(f"[tool.fairguard]\n{options}")
    for arguments in ([], ["-k", "overall"]):
        result = pytester.runpytest_inprocess(*arguments)
        assert result.stdout.str().count(COLLAPSED) == 1
        result.stdout.re_match_lines([rf".*FairguardWarning: {FELL}.*"])
        assert result.ret == 0
    asked = pytester.runpytest_inprocess("-W", "error::fairguard.FairguardWarning")
    asked.assert_outcomes(passed=2, failed=1)
