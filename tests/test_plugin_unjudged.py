"""What a run leaves behind where a check could not be judged: no report of an earlier run passes for this one's."""

import json
import shutil
from pathlib import Path

import pytest

from fairguard import lock

pytestmark = pytest.mark.filterwarnings("always::fairguard.errors.FairguardWarning")

TESTS = """
    from fairguard import fairness_preserved

    @fairness_preserved(dense="dense.pt", pruned="pruned.pt", groups=["origin"])
    def test_declared(): ...

    def test_called(fairness):
        fairness("dense.pt", "pruned.pt", groups=["origin"])
"""
NAMES = ["test_fair.py::test_called", "test_fair.py::test_declared"]
REPORTS = [f"--fairguard-report=r.{suffix}" for suffix in ("html", "json", "sarif")]


@pytest.fixture
def project(pytester: pytest.Pytester, applicants_dir: Path) -> pytest.Pytester:
    """A configured project with reports of an earlier run, whose pruned model is not there any more."""
    shutil.copytree(applicants_dir, pytester.path, dirs_exist_ok=True)
    pytester.makepyfile(test_fair=TESTS)
    for suffix in ("html", "json", "sarif"):
        (pytester.path / f"r.{suffix}").write_text("the report of an earlier run")
    return pytester


def log(project: pytest.Pytester) -> dict:
    (run,) = json.loads((project.path / "r.sarif").read_text())["runs"]
    return run


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_reports_list_what_could_not_be_judged(
    project: pytest.Pytester, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    result = project.runpytest(*REPORTS, *workers)
    assert result.parseoutcomes() == {"errors": 6}
    result.stdout.fnmatch_lines([*(f"{name}: error: *pruned.pt*" for name in NAMES), "report: r.sarif"])
    plain = json.loads((project.path / "r.json").read_text())
    assert plain["outcome"] == "error"
    assert [(name, check["outcome"]) for name, check in plain["checks"].items()] == [(name, "error") for name in NAMES]
    assert log(project)["invocations"] == [{"executionSuccessful": False}]
    results = log(project)["results"]
    assert [(r["ruleId"], r["level"]) for r in results] == [("FG001", "error")] * 2
    assert [r["locations"][0]["physicalLocation"]["region"]["startLine"] for r in results] == [6, 3]
    for text in ((project.path / "r.html").read_text(), (project.path / "summary.md").read_text()):
        assert text.count("not judged") >= 2
        assert "test_called" in text.replace("\\", "")


def test_a_verdict_beside_an_error_is_no_all_clear(project: pytest.Pytester) -> None:
    project.makepyfile(test_fine=TESTS.replace("pruned.pt", "pruned_preserved.pt"))
    project.runpytest(*REPORTS)
    plain = json.loads((project.path / "r.json").read_text())
    assert plain["outcome"] == "error"
    assert [check["outcome"] for check in plain["checks"].values()].count("preserved") == 2
    assert log(project)["invocations"] == [{"executionSuccessful": False}]
    project.runpytest(*REPORTS, "test_fine.py")
    assert json.loads((project.path / "r.json").read_text())["outcome"] == "preserved"
    assert "invocations" not in log(project)


EXPECTED = """
    import pytest

    def test_guard(fairness):
        with pytest.raises(BaseException, match="pruned.pt does not exist"):
            fairness("dense.pt", "pruned.pt", groups=["origin"])

    def test_fine(fairness):
        fairness("dense.pt", "pruned_preserved.pt", groups=["origin"])
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_an_error_that_a_test_expects_is_none_of_the_run(project: pytest.Pytester, workers: tuple[str, ...]) -> None:
    project.makepyfile(test_fair=EXPECTED)
    result = project.runpytest(*REPORTS, *workers)
    assert result.parseoutcomes() == {"passed": 2}, "the test that expects it counts too"
    result.stdout.no_fnmatch_line("*test_guard: error:*")
    plain = json.loads((project.path / "r.json").read_text())
    assert (plain["outcome"], list(plain["checks"])) == ("preserved", ["test_fair.py::test_fine"])
    assert log(project)["results"] == []
    assert "invocations" not in log(project)


def test_an_error_in_a_subtest_is_one_of_the_run(project: pytest.Pytester) -> None:
    pytest.importorskip("_pytest.subtests")
    guard = EXPECTED.replace("guard(fairness", "guard(fairness, subtests")
    project.makepyfile(test_fair=guard.replace("pytest.raises(BaseException, match=", "subtests.test("))
    assert project.runpytest(*REPORTS).ret == 1
    plain = json.loads((project.path / "r.json").read_text())
    assert {name: check["outcome"] for name, check in plain["checks"].items()} == {
        "test_fair.py::test_fine": "preserved",
        "test_fair.py::test_guard": "error",
    }
    assert log(project)["invocations"] == [{"executionSuccessful": False}]


@pytest.mark.parametrize(
    ("tests", "code"),
    [("def test_other(): ...", 0), ("import absent", 2), ("", 5)],
    ids=["another test", "no test can be read", "no test"],
)
def test_a_run_that_comes_to_no_check_says_so_in_its_reports(project: pytest.Pytester, tests: str, code: int) -> None:
    project.makepyfile(test_fair=tests)
    result = project.runpytest(*REPORTS)
    assert result.ret == code
    result.stdout.fnmatch_lines(["nothing was judged", "report: r.html"])
    assert json.loads((project.path / "r.json").read_text()) == {"schema": 1, "outcome": "error", "checks": {}}
    assert log(project)["invocations"] == [{"executionSuccessful": False}]
    assert "nothing was judged" in (project.path / "r.html").read_text()


def test_without_a_configuration_it_says_where_one_was_looked_for(project: pytest.Pytester) -> None:
    (project.path / "fairguard.toml").unlink()
    shutil.copy(project.path / "pruned_preserved.pt", project.path / "pruned.pt")
    result = project.runpytest("-k", "test_called", f"--rootdir={project.path}")
    asked = "not judged: no data: give a file of labelled rows as data=... in the marker, or data in *"
    result.stdout.fnmatch_lines([f"{asked}(no fairguard.toml or * was found in {project.path} or above it)."])


@pytest.mark.parametrize("option", ["--collect-only", "--fixtures"])
def test_a_run_of_no_tests_writes_no_report(project: pytest.Pytester, option: str) -> None:
    project.runpytest(*REPORTS, option)
    assert (project.path / "r.json").read_text() == "the report of an earlier run"


def test_the_lock_keeps_what_could_not_be_judged(project: pytest.Pytester) -> None:
    shutil.copy(project.path / "pruned_preserved.pt", project.path / "pruned.pt")
    project.runpytest("--fairguard-update")
    before = lock.read(project.path / lock.FILE)
    assert sorted(before) == NAMES
    (project.path / "pruned.pt").unlink()
    result = project.runpytest("--fairguard-update", *REPORTS)
    assert lock.read(project.path / lock.FILE) == before
    result.stdout.no_fnmatch_line("*gone*")
