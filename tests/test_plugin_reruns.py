"""Tests that another plugin runs again: what counts, everywhere, is what the last attempt found."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from fairguard import lock

pytestmark = pytest.mark.filterwarnings("always::fairguard.errors.FairguardWarning")

TWICE = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        '''Run a test that failed once more, in the way of pytest-rerunfailures.'''
        for last in (False, True):
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            item._initrequest()
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            failed = [report for report in reports if report.failed and not last]
            for report in failed:
                report.outcome = "rerun"
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            if not failed:
                break
        return True
"""
FIRST = """
    from pathlib import Path
    import pytest
    from fairguard import fairness_preserved

    def first():
        '''Return whether this is the first attempt.'''
        try:
            Path("tried").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
"""
OPTIONS = ("--fairguard-update", "--fairguard-report=r.json", "--junitxml=junit.xml")


@pytest.fixture
def project(pytester: pytest.Pytester, applicants_dir: Path) -> pytest.Pytester:
    """A configured project that runs each failed test once more."""
    shutil.copytree(applicants_dir, pytester.path, dirs_exist_ok=True)
    pytester.makeconftest(TWICE)
    return pytester


def reported(project: pytest.Pytester) -> dict[str, str]:
    """The outcomes in the report by check."""
    checks = json.loads((project.path / "r.json").read_text())["checks"]
    return {name: check["outcome"] for name, check in checks.items()}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_the_last_attempt_is_what_all_files_hold(project: pytest.Pytester, workers: tuple[str, ...]) -> None:
    test = """
    def test_trained_anew(fairness):
        again = first()
        fairness("dense.pt", "pruned_regressed.pt" if again else "pruned_preserved.pt", groups=["origin"])
    """
    project.makepyfile(test_fair=FIRST + test)
    result = project.runpytest(*OPTIONS, *workers)
    assert result.ret == 0
    name = "test_fair.py::test_trained_anew"
    result.stdout.fnmatch_lines([f"{name}: preserved: *", "recorded 12 in fairness.lock"])
    assert reported(project) == {name: "preserved"}
    record = lock.read(project.path / lock.FILE)[name]
    assert {finding.outcome for finding in record.findings.values()} == {"preserved"}
    for case in ET.parse(project.path / "junit.xml").getroot().iter("testcase"):
        names = [p.get("name") for p in case.iter("property")]
        assert sorted(names) == sorted({"fairguard.group", "fairguard.outcome", "fairguard.headline", "fairguard.rows"})


def test_a_call_that_the_last_attempt_does_not_make_is_none(project: pytest.Pytester) -> None:
    test = """
    def test_two(fairness):
        again = first()
        fairness("dense.pt", "pruned_preserved.pt", groups=["origin"])
        if again:
            fairness("dense.pt", "pruned_regressed.pt", groups=["origin"])
    """
    project.makepyfile(test_fair=FIRST + test)
    assert project.runpytest(*OPTIONS).ret == 0
    assert reported(project) == {"test_fair.py::test_two": "preserved"}


@pytest.mark.parametrize("flaky", ["if first(): assert False", "assert False"], ids=["once", "always"])
def test_what_is_declared_is_heard_whatever_else_a_test_needs(project: pytest.Pytester, flaky: str) -> None:
    """The first item of a check carries the verdict, also where its set-up then fails for another reason."""
    test = f"""
    @pytest.fixture
    def server():
        {flaky}

    @fairness_preserved(dense="dense.pt", pruned="pruned_preserved.pt", groups=["origin"])
    def test_declared(server): ...
    """
    project.makepyfile(test_fair=FIRST + test)
    result = project.runpytest(*OPTIONS)
    assert result.parseoutcomes().get("errors", 0) == (0 if "first" in flaky else 5)
    assert reported(project) == {"test_fair.py::test_declared": "preserved"}


def test_a_regression_after_an_attempt_that_was_not_judged_is_a_failure(project: pytest.Pytester) -> None:
    test = """
    def test_fetched_late(fairness):
        fairness("dense.pt", "absent.pt" if first() else "pruned_regressed.pt", groups=["origin"])
    """
    project.makepyfile(test_fair=FIRST + test)
    result = project.runpytest(*OPTIONS)
    assert result.parseoutcomes()["failed"] == 1
    assert "errors" not in result.parseoutcomes()
    assert reported(project) == {"test_fair.py::test_fetched_late": "regressed"}
