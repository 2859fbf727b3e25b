"""``@fairness_preserved``: an item for each group, F for a regression, E for what cannot be judged, one pass for all.

Every run in here is a user's: real models, real rows, pytest in this process.
"""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard import FairnessInconclusive, Outcome, assert_fairness_preserved, check
from fairguard.cli import run as command
from fairguard.cli.check_command import command as check_command
from fairguard.cli.options import settings_from
from fairguard.config import Settings, load_settings, merged
from fairguard.errors import ConfigError
from fairguard.testing.judged import command_of
from fairguard.testing.marker import Options

# The runs inside these tests are users' runs: what is an error in this suite is a warning there.
pytestmark = pytest.mark.filterwarnings("always::fairguard.errors.FairguardWarning")

GROUPS = ["sex=F", "sex=M", "origin=A", "origin=B", "origin=C", "origin=D", "overall"]

DECLARED = """
    from fairguard import fairness_preserved

    @fairness_preserved(dense="dense.pt", pruned="pruned_{outcome}.pt", {more})
    def test_pruned_model(): ...
"""


OPEN = "margin=0.0005, alpha=1e-6"
"""What no data of this size can decide, whatever weights a machine trains."""


@pytest.fixture
def project(pytester: pytest.Pytester, applicants_dir: Path) -> pytest.Pytester:
    """A configured project with models and rows, and a log of every network that is built."""
    shutil.copytree(applicants_dir, pytester.path, dirs_exist_ok=True)
    source = (pytester.path / "model.py").read_text()
    log = "    with open('built.log', 'a') as stream:\n        stream.write('built\\n')\n"
    (pytester.path / "model.py").write_text(source.replace("def build():\n", f"def build():\n{log}"))
    return pytester


def declare(project: pytest.Pytester, outcome: str, more: str = "") -> None:
    project.makepyfile(test_fair=DECLARED.format(outcome=outcome, more=more))


def built(project: pytest.Pytester) -> int:
    log = project.path / "built.log"
    return log.read_text().count("built") if log.exists() else 0


class TestItems:
    def test_an_item_for_each_group(self, project: pytest.Pytester) -> None:
        declare(project, "preserved")
        result = project.runpytest_inprocess("--collect-only", "-q")
        result.stdout.fnmatch_lines_random([f"test_fair.py::test_pruned_model?{group}?" for group in GROUPS])
        result.stdout.fnmatch_lines(["7 tests collected*"])

    def test_collection_opens_no_model(self, project: pytest.Pytester) -> None:
        declare(project, "preserved")
        for path in project.path.glob("*.pt"):
            path.unlink()
        result = project.runpytest_inprocess("--collect-only", "-q")
        result.stdout.fnmatch_lines(["7 tests collected*"])

    def test_groups_may_be_bins_or_the_label(self, project: pytest.Pytester) -> None:
        declare(project, "preserved", "groups=['class', 'years:0']")
        result = project.runpytest_inprocess("--collect-only", "-q")
        ids = ["class=0", "class=1", "years=<0", "years=>=0", "overall"]
        result.stdout.fnmatch_lines_random([f"*test_pruned_model?{name}?" for name in ids])

    def test_other_parameters_stay(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_fair="""
            import pytest
            from fairguard import fairness_preserved

            @pytest.mark.parametrize("number", [1, 2])
            @fairness_preserved(dense="dense.pt", pruned="pruned_preserved.pt", groups="sex")
            def test_pruned_model(number, fairness_group):
                assert number in (1, 2)
                assert fairness_group in ("sex=F", "sex=M", "overall")
            """
        )
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=6)
        assert built(project) == 2

    def test_methods_and_classes(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_fair="""
            from fairguard import fairness_preserved

            @fairness_preserved(dense="dense.pt", groups="sex")
            class TestModels:
                @fairness_preserved(pruned="pruned_preserved.pt")
                def test_method(self): ...

                @fairness_preserved(pruned="pruned_regressed.pt", groups="origin")
                def test_stronger(self): ...
            """
        )
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=3 + 3, failed=2)

    def test_unittest(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_fair="""
            import unittest
            from fairguard import fairness_preserved

            class TestModels(unittest.TestCase):
                @fairness_preserved(dense="dense.pt", pruned="pruned_regressed.pt")
                def test_method(self): ...
            """
        )
        result = project.runpytest_inprocess()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*origin=D: recall of 1*"])


class TestOutcomes:
    def test_preserved_passes(self, project: pytest.Pytester) -> None:
        declare(project, "preserved")
        result = project.runpytest_inprocess("-W", "error")
        result.assert_outcomes(passed=7)
        result.stdout.fnmatch_lines(["*= fairguard =*", "*test_pruned_model: preserved: all * findings preserved"])

    def test_regressed_fails_its_group_and_the_whole(self, project: pytest.Pytester) -> None:
        declare(project, "regressed")
        result = project.runpytest_inprocess("-rA")
        result.assert_outcomes(passed=5, failed=2)
        result.stdout.fnmatch_lines_random(
            ["FAILED *test_pruned_model?origin=D? - *", "FAILED *?overall? - *", "PASSED *?origin=A?"]
        )

    def test_the_message_says_group_and_numbers_first_and_ends_with_a_command(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        declare(project, "regressed", "groups=['origin'], margin=0.03, metrics=['accuracy', 'recall']")
        result = project.runpytest_inprocess("test_fair.py::test_pruned_model[origin=D]")
        result.stdout.fnmatch_lines(
            [
                "FG1?? origin=D: * % -> * %, excess drop +* points ?+*, +*?, allowed 3, n=*",
                "origin=D: * flips (* harmful, * beneficial)*",
                "where: * % of the harmful flips are in the * % of rows that dense was least sure of*",
                "reproduce: fairguard check dense.pt pruned_regressed.pt --group origin --margin 0.03 --metric *",
            ]
        )
        assert "Traceback" not in result.stdout.str()
        (line,) = (line for line in result.outlines if line.startswith("reproduce: "))
        monkeypatch.chdir(project.path)
        assert command(line.removeprefix("reproduce: fairguard ").split()) == 1

    def test_inconclusive_warns_and_passes(self, project: pytest.Pytester) -> None:
        declare(project, "preserved", OPEN)
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=7, warnings=7)
        result.stdout.fnmatch_lines(["*test_fair.py:*: FairnessInconclusive: inconclusive: FG1?? origin=D: *could be*"])

    def test_a_project_may_turn_the_warning_into_an_error(self, project: pytest.Pytester) -> None:
        declare(project, "inconclusive")
        result = project.runpytest_inprocess("-W", "error::fairguard.FairnessInconclusive", "-k", "overall")
        result.assert_outcomes(failed=1)

    def test_a_body_runs_unless_its_group_regressed(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_fair="""
            from fairguard import fairness_preserved

            @fairness_preserved(dense="dense.pt", pruned="pruned_regressed.pt", groups="origin")
            def test_pruned_model(fairness_group):
                print("ran", fairness_group)
                assert fairness_group != "origin=A"
            """
        )
        result = project.runpytest_inprocess("-s")
        result.assert_outcomes(passed=2, failed=3)
        assert [line for line in result.outlines if "ran " in line and "D" in line] == []

    def test_a_skipped_test_judges_nothing(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_fair="""
            import pytest
            from fairguard import fairness_preserved

            @pytest.mark.skip
            @fairness_preserved(dense="dense.pt", pruned="pruned_regressed.pt", groups="sex")
            def test_pruned_model(): ...
            """
        )
        project.runpytest_inprocess().assert_outcomes(skipped=3)
        assert built(project) == 0

    def test_a_bare_marker_in_a_configured_project(self, project: pytest.Pytester) -> None:
        settings = project.path / "fairguard.toml"
        settings.write_text('dense = "dense.pt"\npruned = "pruned_preserved.pt"\n' + settings.read_text())
        project.makepyfile(
            test_fair="""
            import pytest
            from fairguard import fairness_preserved

            @fairness_preserved
            def test_typed(): ...

            @pytest.mark.fairness_preserved
            def test_plain(): ...

            @fairness_preserved()
            def test_called(): ...
            """
        )
        project.runpytest_inprocess("--strict-markers", "--strict-config").assert_outcomes(passed=21)
        assert built(project) == 2

    def test_paths_are_seen_from_the_root(self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        declare(project, "preserved")
        project.makeini("[pytest]")
        (project.path / "tests").mkdir()
        (project.path / "test_fair.py").rename(project.path / "tests" / "test_fair.py")
        monkeypatch.chdir(project.path / "tests")
        project.runpytest_inprocess().assert_outcomes(passed=7)


def test_recorded_answers_of_a_real_network(pytester: pytest.Pytester, data_dir: Path) -> None:
    """ResNet-20 on CIFAR-10, half of its weights pruned at one stroke: dogs suffer, cars do not."""
    with np.load(data_dir / "cifar10_resnet20_predictions.npz") as recorded:
        names, labels = recorded["classes"], recorded["label"]
        for name, sparsity in (("dense", 0.0), ("pruned", 0.5)):
            (at,) = np.flatnonzero(np.isclose(recorded["sparsity"], sparsity, atol=0.01))
            pd.DataFrame({"prediction": names[recorded["pred"][at]]}).to_csv(pytester.path / f"{name}.csv")
    pd.DataFrame({"animal": names[labels]}).to_csv(pytester.path / "val.csv")
    pytester.makepyfile(
        test_fair="""
        from fairguard import fairness_preserved

        @fairness_preserved(dense="dense.csv", pruned="pruned.csv", data="val.csv", label="animal", groups="class")
        def test_half_of_the_weights(): ...
        """
    )
    result = pytester.runpytest_inprocess("-rA")
    result.stdout.fnmatch_lines_random(
        ["FAILED *test_half_of_the_weights?class=dog?*", "PASSED *?class=automobile?", "FG101 class=dog: accuracy *"]
    )
    assert "error" not in result.parseoutcomes()


NOT_JUDGED = [
    ("pruned='absent.pt'", "absent.pt does not exist*"),
    ("pruned='prunde_preserved.pt'", "*Did you mean 'pruned_preserved.pt'*"),
    ("data='absent.parquet'", "*there is no file absent.parquet*"),
    ("groups=['orign']", "*has no column 'orign'*Did you mean 'origin'*"),
    ("label='hird'", "*has no column 'hird'*Did you mean 'hired'*"),
    ("marign=0.02", "*unknown option 'marign'. Did you mean 'margin'*"),
    ("margin=7", "*'margin'*7*"),
    ("metrics=['acuracy']", "*acuracy*"),
    ("model='model.py:biuld'", "*Did you mean 'build'*"),
    ("groups=[]", "*group*"),
]


class TestErrors:
    @pytest.mark.parametrize(("wrong", "line"), NOT_JUDGED, ids=[wrong for wrong, _ in NOT_JUDGED])
    def test_what_cannot_be_judged_is_an_error_of_the_setup(
        self, project: pytest.Pytester, wrong: str, line: str
    ) -> None:
        project.makepyfile(
            test_fair=f"""
            from fairguard import fairness_preserved

            @fairness_preserved(**{{"dense": "dense.pt", "pruned": "pruned_preserved.pt", **dict({wrong})}})
            def test_pruned_model(): ...
            """
        )
        result = project.runpytest_inprocess()
        outcomes = result.parseoutcomes()
        assert set(outcomes) <= {"error", "errors", "warnings"}, outcomes
        result.stdout.fnmatch_lines([f"not judged: {line}"])
        assert "Traceback" not in result.stdout.str()
        assert "During handling" not in result.stdout.str()

    def test_positional_options_are_refused(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_fair="""
            import pytest

            @pytest.mark.fairness_preserved("dense.pt", "pruned_preserved.pt")
            def test_pruned_model(): ...
            """
        )
        result = project.runpytest_inprocess()
        result.stdout.fnmatch_lines(["not judged: fairness_preserved takes names only, and 'dense.pt' has none*"])

    def test_every_item_tells_the_same_error_and_the_models_are_opened_once(self, project: pytest.Pytester) -> None:
        declare(project, "preserved", "batch_size=64, features=['years', 'skill_a']")
        result = project.runpytest_inprocess()
        result.assert_outcomes(errors=7)
        assert built(project) == 2


class TestComputed:
    COMPUTED = """
        import pytest, torch
        import pandas as pd
        from model import build
        from fairguard import fairness_preserved
        from fairguard.demo.synthetic import FEATURES

        def net(name):
            module = build()
            module.load_state_dict(torch.load(name, weights_only=True))
            return module.eval()

        @pytest.fixture
        def val():
            rows = pd.read_parquet("applicants.parquet")
            return rows[FEATURES].to_numpy("float32"), rows["hired"].to_numpy(), {"origin": rows["origin"]}
    """

    def write(self, project: pytest.Pytester, test: str) -> None:
        (project.path / "fairguard.toml").unlink()
        from textwrap import dedent

        (project.path / "test_memory.py").write_text(dedent(self.COMPUTED) + dedent(test))

    def test_models_in_memory(self, project: pytest.Pytester) -> None:
        self.write(
            project,
            """
            @fairness_preserved(groups=["origin"], margin=0.02)
            @pytest.mark.parametrize("name", ["pruned_preserved.pt", "pruned_regressed.pt"])
            def test_in_memory(fairness, val, name):
                verdict = fairness(net("dense.pt"), net(name), val)
                assert verdict.outcome == "preserved"
            """,
        )
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*FG1?? origin=D: *", "reproduce: pytest *test_in_memory*pruned_regressed*"])

    def test_the_marker_is_the_policy(self, project: pytest.Pytester) -> None:
        self.write(
            project,
            """
            @fairness_preserved(margin=0.2)
            def test_wide(fairness, val):
                verdict = fairness(net("dense.pt"), net("pruned_regressed.pt"), val)
                assert verdict.policy.margin == 0.2

            def test_without_marker(fairness, val):
                fairness(net("dense.pt"), net("pruned_regressed.pt"), val, margin=0.2)
            """,
        )
        project.runpytest_inprocess().assert_outcomes(passed=2)

    def test_not_judged_is_an_error_wherever_it_happens(self, project: pytest.Pytester) -> None:
        self.write(
            project,
            """
            @fairness_preserved(marign=0.2)
            def test_wrong_marker(fairness): ...

            @fairness_preserved(groups=["orign"])
            def test_wrong_group(fairness, val):
                fairness(net("dense.pt"), net("pruned_preserved.pt"), val)

            def test_wrong_model(fairness, val):
                fairness(torch.nn.Linear(3, 2), net("pruned_preserved.pt"), val)
            """,
        )
        result = project.runpytest_inprocess()
        result.assert_outcomes(errors=3)
        result.stdout.fnmatch_lines_random(
            ["not judged: unknown option 'marign'. Did you mean 'margin'*", "not judged: *'orign'*"]
        )

    def test_two_calls_in_one_test_are_two_checks(self, project: pytest.Pytester) -> None:
        self.write(
            project,
            f"""
            def test_both(fairness, val):
                fairness(net("dense.pt"), net("pruned_preserved.pt"), val)
                fairness(net("dense.pt"), net("pruned_preserved.pt"), val, {OPEN})
            """,
        )
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=1, warnings=result.parseoutcomes().get("warnings", 0))
        result.stdout.fnmatch_lines(["*::test_both: preserved*", "*::test_both#2: inconclusive*"])


SHARING = """
    from fairguard import fairness_preserved

    @fairness_preserved(dense="dense.pt", pruned="pruned_preserved.pt", groups=["sex", "origin"])
    def test_a(): ...

    @fairness_preserved(dense="dense.pt", pruned="pruned_preserved.pt", groups=["origin", "sex"], margin=0.05)
    def test_b(): ...

    @fairness_preserved(dense="dense.pt", pruned="pruned_preserved.pt", groups=["years:0"], metrics="accuracy")
    def test_c(): ...
"""


class TestOnePass:
    def test_one_pass_for_all_items_and_tests_on_the_same_files(self, project: pytest.Pytester) -> None:
        project.makepyfile(test_fair=SHARING)
        result = project.runpytest_inprocess()
        result.assert_outcomes(passed=7 + 7 + 3)
        assert built(project) == 2, "dense and pruned are opened once each"

    def test_sharing_changes_no_number(self, project: pytest.Pytester) -> None:
        """Each test's findings are those of a check of its own, in its own order of groups."""
        project.makepyfile(test_fair=SHARING)
        project.runpytest_inprocess("--fairguard-report", "all.json")
        shared = json.loads((project.path / "all.json").read_text())["checks"]
        for test in ("test_a", "test_b", "test_c"):
            for path in project.path.glob(".pytest_cache/d/fairguard/*.npz"):
                path.unlink()
            project.runpytest_inprocess("--fairguard-report", "one.json", "-k", test)
            (alone,) = json.loads((project.path / "one.json").read_text())["checks"].values()
            assert alone["findings"] == shared[f"test_fair.py::{test}"]["findings"]
            assert alone["groups"] == shared[f"test_fair.py::{test}"]["groups"]
            assert alone["record"]["settings"] == shared[f"test_fair.py::{test}"]["record"]["settings"]

    @pytest.mark.parametrize(
        "more",
        [{}, {"cluster": "applicant"}, {"weight": "weight"}, {"discover": 2, "discover_columns": ["sex", "years:0"]}],
        ids=str,
    )
    def test_a_test_says_what_a_check_says(
        self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, more: dict[str, object]
    ) -> None:
        """Counted anew and from the cache; clusters, weights and searched columns ride along."""
        rows = pd.read_parquet(project.path / "applicants.parquet")
        rows.assign(weight=1.0 + (rows["years"] > 0)).to_parquet(project.path / "applicants.parquet")
        options = {"groups": ["origin"], "permutations": 199, **more}
        declare(project, "regressed", f"**{options}")
        for name in ("first.json", "again.json"):
            project.runpytest_inprocess("--fairguard-report", name)
        monkeypatch.chdir(project.path)
        verdict = check("dense.pt", "pruned_regressed.pt", settings=load_settings(), **options).to_dict()
        for name in ("first.json", "again.json"):
            (found,) = json.loads((project.path / name).read_text())["checks"].values()
            for part in set(verdict) - {"record"}:
                assert found[part] == verdict[part]
            for part in set(verdict["record"]) - {"created", "settings"}:
                assert found["record"][part] == verdict["record"][part]

    def test_a_group_with_a_colon_in_its_name_is_judged(self, project: pytest.Pytester) -> None:
        rows = pd.read_parquet(project.path / "applicants.parquet")
        rows.rename(columns={"origin": "hh:30"}).to_parquet(project.path / "applicants.parquet")
        declare(project, "preserved", "**{'groups': ['hh:30'], 'permutations': 199}")
        result = project.runpytest_inprocess("--fairguard-report", "all.json")
        assert result.ret == 0
        (found,) = json.loads((project.path / "all.json").read_text())["checks"].values()
        assert {finding["group"] for finding in found["findings"]} == {f"hh:30={name}" for name in "ABCD"}

    def test_the_next_run_finds_the_counts(self, project: pytest.Pytester) -> None:
        declare(project, "regressed")
        first = project.runpytest_inprocess()
        assert built(project) == 2
        second = project.runpytest_inprocess()
        assert built(project) == 2
        assert [x for x in first.outlines if x.startswith("FG1")] == [x for x in second.outlines if x.startswith("FG1")]

    @pytest.mark.parametrize("change", ["model", "rows", "code", "imported", "option"])
    def test_what_changed_is_counted_anew(self, project: pytest.Pytester, change: str) -> None:
        source = project.path / "model.py"
        (project.path / "widths.py").write_text("FIRST = 48\n")
        source.write_text("from widths import FIRST\n" + source.read_text().replace("(8, 48)", "(8, FIRST)"))
        declare(project, "preserved")
        project.runpytest_inprocess().assert_outcomes(passed=7)
        assert built(project) == 2
        if change == "model":
            shutil.copy(project.path / "pruned_regressed.pt", project.path / "pruned_preserved.pt")
        elif change == "rows":
            rows = pd.read_parquet(project.path / "applicants.parquet")
            rows.iloc[:20_000].to_parquet(project.path / "applicants.parquet")
        elif change == "code":
            source.write_text(source.read_text() + "\n# another word\n")
        elif change == "imported":
            (project.path / "widths.py").write_text("FIRST = 40 + 8\n")
        else:
            declare(project, "preserved", "batch_size=100")
        result = project.runpytest_inprocess()
        assert built(project) == 4
        assert ("failed" in result.parseoutcomes()) == (change == "model")

    def test_a_broken_cache_is_made_anew(self, project: pytest.Pytester) -> None:
        declare(project, "preserved")
        project.runpytest_inprocess().assert_outcomes(passed=7)
        for path in project.path.glob(".pytest_cache/d/fairguard/*.npz"):
            path.write_bytes(path.read_bytes()[:100])
        project.runpytest_inprocess().assert_outcomes(passed=7)
        assert built(project) == 4

    def test_rows_from_code_are_counted_in_every_run(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            rows="""
            import pandas as pd

            def val():
                return pd.read_parquet("applicants.parquet")
            """
        )
        declare(project, "preserved", "data='rows.py:val'")
        for passes in (1, 2):
            project.runpytest_inprocess().assert_outcomes(passed=7)
            assert built(project) == 2 * passes

    def test_without_pytests_cache(self, project: pytest.Pytester) -> None:
        declare(project, "preserved")
        project.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=7)
        assert built(project) == 2


class TestPlainFunction:
    @pytest.fixture(autouse=True)
    def _inside(self, applicants_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(applicants_dir)

    def test_preserved_returns_the_verdict(self) -> None:
        assert assert_fairness_preserved("dense.pt", "pruned_preserved.pt").outcome is Outcome.PRESERVED

    def test_regressed_is_an_assertion_error(self) -> None:
        with pytest.raises(AssertionError, match=r"origin=D: recall of 1 .* excess drop"):
            assert_fairness_preserved("dense.pt", "pruned_regressed.pt", margin=0.03)

    def test_inconclusive_warns(self) -> None:
        with pytest.warns(FairnessInconclusive, match=r"\d+ inconclusive, \d+ preserved of \d+ findings"):
            verdict = assert_fairness_preserved("dense.pt", "pruned_inconclusive.pt")
        assert verdict.outcome is Outcome.INCONCLUSIVE

    def test_what_cannot_be_judged(self) -> None:
        with pytest.raises(ConfigError, match="Did you mean 'margin'"):
            assert_fairness_preserved("dense.pt", "pruned_preserved.pt", marign=0.1)

    def test_modules_in_memory(self, applicants_dir: Path) -> None:
        from fairguard.demo.synthetic import build

        nets = []
        for name in ("dense.pt", "pruned_regressed.pt"):
            nets.append(build())
            nets[-1].load_state_dict(torch.load(applicants_dir / name, weights_only=True))
        with pytest.raises(AssertionError, match="origin=D"):
            assert_fairness_preserved(*nets, applicants_dir / "applicants.parquet")


def test_the_typed_marker_knows_every_option_of_a_check() -> None:
    only_for_commands = {"flips", "format", "output", "allow_inconclusive"}
    assert set(Options.__annotations__) == set(Settings.model_fields) - only_for_commands


def test_the_command_of_a_test_has_the_settings_of_the_test() -> None:
    """Every option of a marker, written as a command, is read by the command as the same option."""
    options = {
        **{
            "dense": "a b.pt",
            "pruned": "p.pt",
            "data": "v.csv",
            "label": "y",
            "groups": ["sex", "age:25,45"],
            "id": "i",
        },
        **{"features": ["f", "g"], "transform": "t.py:t", "classes": ["no", "yes"], "weight": "w", "cluster": "c"},
        **{"model": "m.py:b", "model_pruned": "m.py:p", "threshold": 0.5, "output_key": "logits", "batch_size": 32},
        **{
            "per_row": True,
            "device": "cpu",
            "provider": "cpu",
            "limit": "2GiB",
            "trust": True,
            "metrics": ["accuracy", "fpr"],
        },
        **{"margin": 0.03, "margins": {"fpr": 0.05}, "alpha": 0.01, "intersections": 1, "min_group": 30},
        **{"untested": "fail", "strict": True, "favourable": "yes", "seed": 3, "looks": 4, "look": 2},
        **{"seeds": ["s1.pt", "s2.pt"], "discover": 2, "discover_columns": ["job", "town"]},
    }
    assert set(options) == set(Options.__annotations__) - {"accept", "permutations"}
    program, name, *words = shlex.split(command_of(options, test="t.py::t"))
    assert (program, name) == ("fairguard", "check")
    typed = check_command.make_context("check", words).params
    files = {part: typed.pop(part) for part in ("dense", "pruned")}
    for part in ("verbose", "quiet", "config", "dry_run"):
        typed.pop(part)
    assert settings_from(None, **typed, **files) == merged(Settings(), {**options, "pruned": "p.pt"})


def test_what_no_command_can_do_again_has_none() -> None:
    options = {"dense": np.zeros(3), "pruned": np.zeros(3)}
    assert command_of(options, test="assert_fairness_preserved") == ""
    assert command_of(options, test="t.py::t") == "pytest t.py::t"
