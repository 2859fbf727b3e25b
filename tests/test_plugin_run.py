"""The options of a run, what it leaves behind, and how light the plugin is: runs as users do them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.filterwarnings("always::fairguard.errors.FairguardWarning")

THREE = """
    from fairguard import fairness_preserved

    @fairness_preserved(dense="dense.pt", pruned="pruned_preserved.pt", groups=["origin"])
    def test_preserved(): ...

    # No data of this size can decide that, whatever weights a machine trains.
    @fairness_preserved(dense="dense.pt", pruned="pruned_preserved.pt", groups=["origin"], margin=0.0005, alpha=1e-6)
    def test_inconclusive(): ...

    @fairness_preserved(dense="dense.pt", pruned="pruned_regressed.pt", groups=["origin"])
    def test_regressed(): ...
"""


@pytest.fixture
def project(pytester: pytest.Pytester, applicants_dir: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A configured project with a test of each outcome, and a log of every network that is built."""
    shutil.copytree(applicants_dir, pytester.path, dirs_exist_ok=True)
    source = (pytester.path / "model.py").read_text()
    log = "    with open('built.log', 'a') as stream:\n        stream.write('built\\n')\n"
    (pytester.path / "model.py").write_text(source.replace("def build():\n", f"def build():\n{log}"))
    pytester.makepyfile(test_fair=THREE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return pytester


class TestInconclusive:
    @pytest.mark.parametrize(
        ("options", "becomes"),
        [
            ([], "passed"),
            (["--fairguard-inconclusive=warn"], "passed"),
            (["--fairguard-inconclusive=fail"], "failed"),
            (["--fairguard-inconclusive=skip"], "skipped"),
        ],
        ids=lambda part: " ".join(part) if isinstance(part, list) else "",
    )
    def test_option(self, project: pytest.Pytester, options: list[str], becomes: str) -> None:
        self.run(project, becomes, *options)

    def test_ini(self, project: pytest.Pytester) -> None:
        project.makeini("[pytest]\nfairguard_inconclusive = fail\naddopts = --strict-config")
        self.run(project, "failed")
        self.run(project, "skipped", "--fairguard-inconclusive=skip")

    def test_where_warnings_are_errors_it_fails_with_its_line_alone(self, project: pytest.Pytester) -> None:
        project.makeini("[pytest]\nfilterwarnings = error")
        result = self.run(project, "failed")
        result.stdout.fnmatch_lines(["inconclusive: FG1?? origin=D: *could be*"])
        result.stdout.no_fnmatch_line("*pytest_fairguard.py*")

    def run(self, project: pytest.Pytester, becomes: str, *options: str) -> pytest.RunResult:
        result = project.runpytest_inprocess("-k", "test_inconclusive", *options)
        result.assert_outcomes(**{becomes: 5}, deselected=10)
        return result

    def test_a_wrong_ini_is_a_usage_error(self, project: pytest.Pytester) -> None:
        project.makeini("[pytest]\nfairguard_inconclusive = ignore")
        result = project.runpytest_inprocess()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*fairguard_inconclusive is 'ignore'; write one of warn, fail, skip*"])


class TestOptions:
    def test_margin_of_a_run_is_stronger_than_the_marker(self, project: pytest.Pytester) -> None:
        project.runpytest_inprocess("-k", "regressed", "--fairguard-margin=0.2").assert_outcomes(
            passed=5, deselected=10
        )

    def test_alpha_and_device_of_a_run(self, project: pytest.Pytester) -> None:
        options = ("--fairguard-alpha=0.001", "--fairguard-device=cpu", "--fairguard-report=r.json")
        project.runpytest_inprocess("-k", "test_preserved", *options)
        (verdict,) = json.loads((project.path / "r.json").read_text())["checks"].values()
        assert verdict["policy"]["alpha"] == 0.001
        assert verdict["record"]["settings"]["device"] == "cpu"

    @pytest.mark.parametrize(
        "option", ["--fairguard-margin=x", "--fairguard-inconclusive=no", "--fairguard-update=all"]
    )
    def test_usage_errors(self, project: pytest.Pytester, option: str) -> None:
        assert project.runpytest_inprocess(option).ret == pytest.ExitCode.USAGE_ERROR

    def test_update_before_a_file_says_what_to_write(self, project: pytest.Pytester) -> None:
        result = project.runpytest_inprocess("--fairguard-update", "test_fair.py")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            ["*'test_fair.py' is none of new, improved, regressed; write --fairguard-update=new*"]
        )

    def test_a_margin_out_of_range_is_an_error_of_each_test(self, project: pytest.Pytester) -> None:
        result = project.runpytest_inprocess("-k", "test_preserved", "--fairguard-margin=3")
        assert "passed" not in result.parseoutcomes()
        result.stdout.fnmatch_lines(["not judged: *'margin'*"])


class TestReports:
    @pytest.mark.parametrize("suffix", ["html", "json", "sarif"])
    def test_files(self, project: pytest.Pytester, suffix: str) -> None:
        result = project.runpytest_inprocess(f"--fairguard-report=r.{suffix}")
        result.stdout.fnmatch_lines([f"report: r.{suffix}"])
        text = (project.path / f"r.{suffix}").read_text()
        for name in ("test_preserved", "test_inconclusive", "test_regressed"):
            assert (f"test_fair.py::{name}" in text) == (suffix != "sarif" or name != "test_preserved")
        assert "origin=D" in text

    def test_sarif_points_at_the_declaration(self, project: pytest.Pytester) -> None:
        project.runpytest_inprocess("--fairguard-report=r.sarif")
        results = json.loads((project.path / "r.sarif").read_text())["runs"][0]["results"]
        places = {
            (p["artifactLocation"]["uri"], p["region"]["startLine"])
            for p in (result["locations"][0]["physicalLocation"] for result in results)
        }
        lines = (project.path / "test_fair.py").read_text().splitlines()
        assert {file for file, _ in places} == {"test_fair.py"}
        assert all("fairness_preserved(" in lines[line - 1] for _, line in places)

    def test_json_has_the_worst_outcome_at_its_top(self, project: pytest.Pytester) -> None:
        project.runpytest_inprocess("--fairguard-report=r.json")
        plain = json.loads((project.path / "r.json").read_text())
        assert plain["outcome"] == "regressed"
        assert [v["outcome"] for _, v in sorted(plain["checks"].items())] == ["inconclusive", "preserved", "regressed"]

    @pytest.mark.parametrize("name", ["r.pdf", "no/such/folder/r.html"])
    def test_what_cannot_be_written_is_said_before_any_test(self, project: pytest.Pytester, name: str) -> None:
        result = project.runpytest_inprocess("--fairguard-report", name)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*'{name}': *"])

    def test_a_folder_lost_on_the_way_changes_no_exit_status(self, project: pytest.Pytester) -> None:
        (project.path / "out").mkdir()
        project.makepyfile(test_zz="def test_lose():\n    __import__('os').rmdir('out')")
        result = project.runpytest_inprocess("-k", "test_preserved or test_lose", "--fairguard-report=out/r.html")
        assert result.ret == 0
        result.stdout.fnmatch_lines(["error: cannot write *r.html*"])

    def test_junit_has_the_numbers_as_properties(self, project: pytest.Pytester) -> None:
        project.runpytest_inprocess("-k", "test_regressed", "--junitxml=junit.xml")
        found = {}
        for case in ET.parse(project.path / "junit.xml").getroot().iter("testcase"):
            found[case.get("name")] = {p.get("name"): p.get("value") for p in case.iter("property")}
        harmed = found["test_regressed[origin=D]"]
        assert harmed["fairguard.outcome"] == "regressed"
        assert harmed["fairguard.group"] == "origin=D"
        assert float(harmed["fairguard.recall[1].excess"] or "") > 0.02
        assert found["test_regressed[overall]"]["fairguard.rows"] == "30000"

    def test_github_step_summary(self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        (project.path / "summary.md").write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
        project.runpytest_inprocess("-k", "test_regressed")
        text = (project.path / "summary.md").read_text()
        assert text.startswith("before\n### ")
        assert "| origin=D |" in text


class TestOtherPlugins:
    def test_strict_and_without_a_marked_test(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_x(): ...")
        result = pytester.runpytest_inprocess("--strict-markers", "--strict-config", "-W", "error")
        result.assert_outcomes(passed=1)
        result.stdout.no_fnmatch_line("*= fairguard*")

    def test_the_marker_is_listed_with_its_options(self, pytester: pytest.Pytester) -> None:
        result = pytester.runpytest_inprocess("--markers")
        result.stdout.fnmatch_lines(["@pytest.mark.fairness_preserved(?, dense, pruned, data, label, groups, model*"])

    def test_without_terminal(self, project: pytest.Pytester) -> None:
        result = project.runpytest_inprocess("-p", "no:terminal", "--fairguard-report=r.json")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert len(json.loads((project.path / "r.json").read_text())["checks"]) == 3

    def test_switched_off(self, project: pytest.Pytester) -> None:
        """Other tests run as ever; the marker is told to be unknown, in strict runs as an error."""
        project.makepyfile(test_other="def test_other(): ...")
        result = project.runpytest_subprocess("-p", "no:fairguard")
        result.stdout.fnmatch_lines(["*Unknown pytest.mark.fairness_preserved*"])
        result.assert_outcomes(passed=1, errors=3, warnings=1)
        strict = project.runpytest_subprocess("-p", "no:fairguard", "--strict-markers")
        strict.stdout.fnmatch_lines(["*'fairness_preserved' not found in `markers`*"])


def test_workers_share_one_pass_and_say_what_one_process_says(project: pytest.Pytester) -> None:
    """Under pytest-xdist: verdicts, lock file, reports, JUnit properties and errors are those of a single process."""
    broken = "@fairness_preserved(dense='absent.pt', pruned='pruned_preserved.pt')\ndef test_broken(): ..."
    several = """
    import pytest

    MARKS = {m: pytest.mark.fairness_preserved(pruned=f"pruned_{m}.pt") for m in ("preserved", "regressed")}

    @pytest.mark.parametrize("m", [pytest.param(m, marks=MARKS[m]) for m in MARKS])
    @fairness_preserved(dense="dense.pt", groups=["origin"])
    def test_several(m): ...

    """
    project.makepyfile(test_fair=dedent(THREE) + dedent(several) + broken)
    options = ("--fairguard-update=new", "--junitxml=junit.xml")
    alone = project.runpytest_inprocess("--fairguard-report=one.json", *options)
    first = (project.path / "fairness.lock").read_text()
    (project.path / "fairness.lock").unlink()
    (project.path / "built.log").unlink()
    shutil.rmtree(project.path / ".pytest_cache")
    together = project.runpytest_subprocess("-n", "2", "--fairguard-report=two.json", *options)
    assert (project.path / "built.log").read_text().count("built") == 2 * 2, "each pair is opened once"
    assert together.parseoutcomes() == alone.parseoutcomes()
    assert together.parseoutcomes()["errors"] == 7
    told = ["*= fairguard =*", "*::test_regressed: regressed: *", "*::test_several?preserved?: preserved: *"]
    together.stdout.fnmatch_lines([*told, "*::test_several?regressed?: regressed: *", "report: two.json"])
    assert (project.path / "fairness.lock").read_text() == first
    assert "fairguard.outcome" in (project.path / "junit.xml").read_text()
    one, two = (json.loads((project.path / name).read_text())["checks"] for name in ("one.json", "two.json"))
    assert {name: check["findings"] for name, check in one.items()} == {
        name: check["findings"] for name, check in two.items()
    }


def test_an_unrelated_run_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    heavy = ["torch", "numpy", "fairlearn", "pandas", "pyarrow", "onnxruntime", "pydantic", "fairguard"]
    pytester.makepyfile(
        f"""
        import sys

        def test_unrelated(): ...

        def test_light():
            assert "pytest_fairguard" in sys.modules
            assert [name for name in {heavy} if name in sys.modules] == []
        """
    )
    pytester.makeconftest(
        """
        def pytest_sessionstart(session):
            # pytest before 8.3.3 reads each attribute of a plugin by itself
            plugin = session.config.pluginmanager.get_plugin("fairguard-session")
            assert [name for name in dir(plugin) if getattr(plugin, name, name) is name] == []
        """
    )
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=pytester.path, capture_output=True, text=True)
    assert "2 passed" in done.stdout, done.stdout


def test_importing_the_marker_loads_nothing_heavy() -> None:
    code = (
        "from fairguard import fairness_preserved; import sys; "
        "print([name for name in ('torch', 'numpy', 'fairlearn', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_collecting_declared_tests_does_not_load_torch(project: pytest.Pytester) -> None:
    project.makeconftest(
        "import sys\n\ndef pytest_collection_finish(session):\n    print('torch loaded:', 'torch' in sys.modules)\n"
    )
    result = project.runpytest_subprocess("--collect-only", "-q")
    result.stdout.fnmatch_lines(["*torch loaded: False"])
