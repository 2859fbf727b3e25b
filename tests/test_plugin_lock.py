"""fairness.lock and accepted findings in runs of pytest: what is recorded, what fails, what the summary says."""

import datetime
import json
import shutil
from pathlib import Path

import pytest

from fairguard import lock

pytestmark = pytest.mark.filterwarnings("always::fairguard.errors.FairguardWarning")

ONE = """
    from fairguard import fairness_preserved

    @fairness_preserved(dense="dense.pt", pruned="pruned.pt", groups=["origin"])
    def test_model(): ...
"""
CHECK = "test_fair.py::test_model"


@pytest.fixture
def project(pytester: pytest.Pytester, applicants_dir: Path) -> pytest.Pytester:
    """A configured project with one test, of a pruned model that :func:`use` names."""
    shutil.copytree(applicants_dir, pytester.path, dirs_exist_ok=True)
    pytester.makepyfile(test_fair=ONE)
    return pytester


def use(project: pytest.Pytester, outcome: str) -> None:
    shutil.copy(project.path / f"pruned_{outcome}.pt", project.path / "pruned.pt")


def locked(project: pytest.Pytester) -> dict[str, lock.Record]:
    return lock.read(project.path / lock.FILE)


class TestRecording:
    def test_no_lock_unless_asked_for(self, project: pytest.Pytester) -> None:
        use(project, "preserved")
        result = project.runpytest_inprocess()
        assert not (project.path / lock.FILE).exists()
        result.stdout.no_fnmatch_line("*fairness.lock*")

    def test_a_first_update_records_everything(self, project: pytest.Pytester) -> None:
        use(project, "preserved")
        result = project.runpytest_inprocess("--fairguard-update")
        result.assert_outcomes(passed=5)
        record = locked(project)[CHECK]
        assert set(record.findings) == {
            f"origin={level} {metric}" for level in "ABCD" for metric in ("accuracy", "recall of 1", "fpr of 1")
        }
        assert all(record.hashes.values()), "dense, pruned and data are files"
        result.stdout.fnmatch_lines(["fairness.lock: 0 worse, 12 new, 0 better, 0 gone, 0 same", "recorded 12 in *"])

    def test_the_same_run_again_changes_nothing(self, project: pytest.Pytester) -> None:
        use(project, "preserved")
        project.runpytest_inprocess("--fairguard-update")
        before = (project.path / lock.FILE).read_bytes()
        result = project.runpytest_inprocess("--fairguard-update")
        assert (project.path / lock.FILE).read_bytes() == before
        result.stdout.fnmatch_lines(["fairness.lock: 0 worse, 0 new, 0 better, 0 gone, 12 same"])

    def test_a_regressed_test_stays_red_while_it_is_recorded(self, project: pytest.Pytester) -> None:
        use(project, "regressed")
        project.runpytest_inprocess("--fairguard-update").assert_outcomes(passed=3, failed=2)
        assert CHECK in locked(project)
        project.runpytest_inprocess().assert_outcomes(passed=3, failed=2)

    def test_not_in_ci_and_says_why(self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        use(project, "preserved")
        monkeypatch.setenv("CI", "true")
        result = project.runpytest_inprocess("--fairguard-update")
        assert not (project.path / lock.FILE).exists()
        result.stdout.fnmatch_lines(["fairness.lock not updated: CI is set*"])

    def test_another_place_from_the_ini_file(self, project: pytest.Pytester) -> None:
        use(project, "preserved")
        (project.path / "tests").mkdir()
        project.makeini("[pytest]\nfairguard_lock = tests/fair.lock")
        project.runpytest_inprocess("--fairguard-update")
        assert CHECK in lock.read(project.path / "tests" / "fair.lock")

    def test_unselected_checks_stay(self, project: pytest.Pytester) -> None:
        use(project, "preserved")
        project.makepyfile(test_other=ONE)
        project.runpytest_inprocess("--fairguard-update")
        result = project.runpytest_inprocess("--fairguard-update=new,improved,regressed", "test_fair.py")
        assert set(locked(project)) == {CHECK, "test_other.py::test_model"}
        result.stdout.fnmatch_lines(["fairness.lock: * 12 same; not run: 1"])

    def test_checks_that_nobody_declares_are_gone(self, project: pytest.Pytester) -> None:
        use(project, "preserved")
        project.makepyfile(test_other=ONE, test_third=ONE)
        project.runpytest_inprocess("--fairguard-update")
        (project.path / "test_other.py").unlink()
        project.makepyfile(test_third=ONE.replace("test_model", "test_renamed"))
        result = project.runpytest_inprocess("test_fair.py")
        result.stdout.fnmatch_lines(["  gone: test_other.py::test_model", "  gone: test_third.py::test_model"])
        project.runpytest_inprocess("--fairguard-update=improved", "test_fair.py")
        assert len(locked(project)) == 3
        project.runpytest_inprocess("--fairguard-update=new", "test_fair.py")
        assert set(locked(project)) == {CHECK}


class TestWorse:
    @pytest.fixture
    def worse(self, project: pytest.Pytester) -> pytest.Pytester:
        """A lock of a good model, and a bad one in its place, with a margin that would let it pass."""
        use(project, "preserved")
        project.runpytest_inprocess("--fairguard-update")
        use(project, "regressed")
        return project

    MARGIN = "--fairguard-margin=0.2"

    def test_worse_than_the_lock_fails_within_the_margin_too(self, worse: pytest.Pytester) -> None:
        result = worse.runpytest_inprocess(self.MARGIN)
        result.assert_outcomes(passed=3, failed=2)
        result.stdout.fnmatch_lines(
            ["origin=D recall of 1: excess drop +* points, worse than the * in fairness.lock by +*, beyond noise, n=*"]
        )
        result.stdout.fnmatch_lines(["fairness.lock: ? worse, 0 new, *", "  worse: *origin=D recall of 1: * -> *"])

    def test_the_same_model_is_not_worse(self, worse: pytest.Pytester) -> None:
        use(worse, "preserved")
        worse.runpytest_inprocess(self.MARGIN).assert_outcomes(passed=5)

    def test_the_default_update_does_not_agree_to_worse(self, worse: pytest.Pytester) -> None:
        before = locked(worse)
        result = worse.runpytest_inprocess(self.MARGIN, "--fairguard-update")
        result.assert_outcomes(passed=3, failed=2)
        assert locked(worse)[CHECK].findings["origin=D recall of 1"] == before[CHECK].findings["origin=D recall of 1"]
        result.stdout.fnmatch_lines(["recorded * in fairness.lock; * left as they were*"])

    def test_agreeing_to_worse_fails_once_more_and_then_passes(self, worse: pytest.Pytester) -> None:
        worse.runpytest_inprocess(self.MARGIN, "--fairguard-update=regressed").assert_outcomes(passed=3, failed=2)
        worse.runpytest_inprocess(self.MARGIN).assert_outcomes(passed=5)

    def test_better_is_said_and_recorded(self, worse: pytest.Pytester) -> None:
        worse.runpytest_inprocess(self.MARGIN, "--fairguard-update=regressed")
        use(worse, "preserved")
        result = worse.runpytest_inprocess(self.MARGIN, "--fairguard-update")
        result.assert_outcomes(passed=5)
        result.stdout.fnmatch_lines(["  better: *origin=D recall of 1: * -> *"])
        use(worse, "regressed")
        worse.runpytest_inprocess(self.MARGIN).assert_outcomes(passed=3, failed=2)

    def test_models_in_memory_too(self, worse: pytest.Pytester) -> None:
        worse.makepyfile(
            test_fair="""
            def test_model(fairness):
                fairness("dense.pt", "pruned.pt", margin=0.2)
            """
        )
        use(worse, "preserved")
        worse.runpytest_inprocess("--fairguard-update").assert_outcomes(passed=1)
        use(worse, "regressed")
        result = worse.runpytest_inprocess()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*worse than the * in fairness.lock by*"])


WRONG = """{"schema": 1, "checks": {"test_fair.py::test_model": {"dense": "", "pruned": "", "data": "", "findings": {
"origin=A accuracy": {"outcome": "preserved", "n": "x", "harmed": 0, "helped": 0, "n_rest": 9, "harmed_rest": 0,
"helped_rest": 0}}}}}"""


@pytest.mark.parametrize("text", ["<<<<<<< HEAD", '{"schema": 99, "checks": {}}', "[" * 100_000, WRONG])
def test_a_broken_lock_is_an_error_and_is_never_overwritten(project: pytest.Pytester, text: str) -> None:
    use(project, "preserved")
    (project.path / lock.FILE).write_text(text)
    result = project.runpytest_inprocess("--fairguard-update", "--fairguard-report=r.html")
    result.assert_outcomes(errors=5)
    result.stdout.fnmatch_lines(["not judged: *fairness.lock *"])
    assert (project.path / lock.FILE).read_text() == text
    assert (project.path / "r.html").exists()


def test_a_folder_in_the_place_of_the_lock(project: pytest.Pytester) -> None:
    use(project, "preserved")
    (project.path / "fairness.lock").mkdir()
    result = project.runpytest_inprocess("--fairguard-update")
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


class TestAccepted:
    def accept(self, project: pytest.Pytester, until: datetime.date, group: str = "origin=D") -> None:
        use(project, "regressed")
        entry = f'\naccept = [{{group = "{group}", until = {until}, why = "fixed in the next release"}}]\n'
        settings = project.path / "fairguard.toml"
        settings.write_text(settings.read_text() + entry)

    def test_an_accepted_regression_does_not_fail(self, project: pytest.Pytester) -> None:
        self.accept(project, datetime.date.today() + datetime.timedelta(days=1))
        result = project.runpytest_inprocess("--fairguard-report=r.json", "--fairguard-report=r.html")
        result.assert_outcomes(passed=5, warnings=result.parseoutcomes().get("warnings", 0))
        (verdict,) = json.loads((project.path / "r.json").read_text())["checks"].values()
        reasons = {f["accepted"] for f in verdict["findings"] if f["outcome"] == "regressed"}
        (reason,) = reasons
        assert reason.startswith("fixed in the next release (until ")
        result.stdout.fnmatch_lines(["*accepted for now*"])

    def test_an_expired_one_fails_and_says_what_was_promised(self, project: pytest.Pytester) -> None:
        until = datetime.date.today() - datetime.timedelta(days=1)
        self.accept(project, until)
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=3, failed=2)
        result.stdout.fnmatch_lines([f"FG1?? origin=D: *; was accepted until {until}: fixed in the next release"])

    def test_the_last_day_counts(self, project: pytest.Pytester) -> None:
        self.accept(project, datetime.date.today())
        assert "failed" not in project.runpytest_inprocess().parseoutcomes()

    def test_other_groups_still_fail(self, project: pytest.Pytester) -> None:
        self.accept(project, datetime.date(2999, 1, 1), group="origin=E")
        result = project.runpytest_inprocess("--fairguard-report=r.html")
        result.assert_outcomes(passed=3, failed=2)
        page = (project.path / "r.html").read_text()
        assert "accept names &#39;origin=E&#39;, which is no group of this check. Did you mean &#39;origin=" in page

    def test_an_accepted_one_that_gets_worse_than_the_lock_fails(self, project: pytest.Pytester) -> None:
        use(project, "preserved")
        project.runpytest_inprocess("--fairguard-update")
        self.accept(project, datetime.date(2999, 1, 1))
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=3, failed=2)
        result.stdout.fnmatch_lines(["*worse than the * in fairness.lock by*"])
