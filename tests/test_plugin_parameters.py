"""One verdict for one question: tests that ask different things under one name are told apart, or refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard import lock
from fairguard.names import clean

N = 4_000
HEAD = """
    import pytest
    from fairguard import fairness_preserved

    ROWS = {"dense": "dense.csv", "data": "rows.csv", "label": "y", "groups": ["sex"]}

    def pruned(name):
        return pytest.mark.fairness_preserved(pruned=f"{name}.csv")
"""
GOOD, BAD = "preserved", "regressed"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Recorded answers: good.csv are dense's own, bad.csv are wrong for every second of one group."""
    rng = np.random.default_rng(0)
    sex, y = rng.choice(["a", "b"], N), rng.integers(0, 2, N)
    pd.DataFrame({"sex": sex, "y": y}).to_csv(pytester.path / "rows.csv", index=False)
    bad = np.where((sex == "b") & (rng.random(N) < 0.5), 1 - y, y)
    for name, answers in (("dense", y), ("good", y), ("bad", bad)):
        pd.DataFrame({"prediction": answers}).to_csv(pytester.path / f"{name}.csv", index=False)
    return pytester


def write(folder: Path, test: str, name: str = "test_fair.py") -> None:
    from textwrap import dedent

    (folder / name).write_text(dedent(HEAD) + dedent(test))


def outcomes(project: pytest.Pytester, *options: str) -> dict[str, str]:
    """Return the outcome of every check of a run, as its report has them."""
    project.runpytest_inprocess("--fairguard-report=r.json", *options)
    checks = json.loads((project.path / "r.json").read_text())["checks"]
    return {name.partition("::")[2]: check["outcome"] for name, check in checks.items()}


MARKED = """
    @pytest.mark.parametrize("m", [
        pytest.param("good", marks=fairness_preserved(pruned="good.csv", **ROWS)),
        pytest.param("bad", marks=fairness_preserved(pruned="bad.csv", **ROWS)),
        "neither",
    ])
    def test_models(m): ...
"""
STRONGER = """
    @pytest.mark.parametrize("m", [pytest.param(m, marks=pruned(m)) for m in ("good", "bad")])
    @fairness_preserved(pruned="good.csv", **ROWS)
    def test_models(m, fairness_group): ...
"""
FIXTURE = """
    @pytest.fixture(params=[pytest.param(m, marks=pruned(m)) for m in ("good", "bad")])
    def m(request):
        return request.param

    @pytest.mark.parametrize("size", ["small", "large"])
    @fairness_preserved(**ROWS)
    def test_models(m, size): ...
"""


class TestNames:
    @pytest.mark.parametrize(
        ("test", "expected"),
        [
            (MARKED, {"test_models[good]": GOOD, "test_models[bad]": BAD}),
            (STRONGER, {"test_models[good]": GOOD, "test_models[bad]": BAD}),
            (
                FIXTURE,
                {
                    f"test_models[{m}-{size}]": o
                    for m, o in (("good", GOOD), ("bad", BAD))
                    for size in ("small", "large")
                },
            ),
        ],
        ids=["marked", "stronger", "fixture"],
    )
    def test_parameters_that_decide_what_is_asked_are_part_of_the_name(
        self, project: pytest.Pytester, test: str, expected: dict[str, str]
    ) -> None:
        write(project.path, test)
        assert outcomes(project) == expected
        assert outcomes(project, "-k", "bad") == {name: o for name, o in expected.items() if o == BAD}

    def test_the_test_fails_with_its_own_model_only(self, project: pytest.Pytester) -> None:
        write(project.path, MARKED)
        result = project.runpytest_inprocess("-rA")
        result.assert_outcomes(passed=2, failed=1)
        result.stdout.fnmatch_lines_random(["PASSED *?good?", "FAILED *?bad? - *", "PASSED *?neither?"])

    def test_parameters_that_change_nothing_are_not(self, project: pytest.Pytester) -> None:
        """So that the names in lock files stay."""
        write(
            project.path,
            """
            @pytest.mark.parametrize("m", [1, *(pytest.param(m, marks=pruned("good")) for m in (2, 3))])
            @fairness_preserved(pruned="good.csv", **ROWS)
            def test_models(m): ...

            ONE = fairness_preserved(pruned="good.csv", **ROWS)

            @pytest.mark.parametrize("m", ["one", pytest.param("two", marks=ONE)])
            def test_one_of_them(m): ...
            """,
        )
        assert outcomes(project) == {"test_models": GOOD, "test_one_of_them": GOOD}

    def test_groups_whose_names_pytest_writes_otherwise(self, project: pytest.Pytester) -> None:
        rows = pd.read_csv(project.path / "rows.csv")
        rows.assign(sex=rows["sex"].map({"a": "größe-1", "b": "größe"})).to_csv(project.path / "rows.csv", index=False)
        write(project.path, STRONGER)
        assert outcomes(project) == {"test_models[good]": GOOD, "test_models[bad]": BAD}

    @pytest.mark.parametrize("asked", ["raw", "shown"])
    @pytest.mark.parametrize("column", ["a column that asks at length, " * 4, "a\nb", "se\x1bx:30"])
    def test_columns_whose_names_are_shown_otherwise(self, project: pytest.Pytester, column: str, asked: str) -> None:
        rows = pd.read_csv(project.path / "rows.csv").rename(columns={"sex": column})
        rows.to_csv(project.path / "rows.csv", index=False)
        named = column if asked == "raw" else clean(column)
        write(project.path, STRONGER.replace("**ROWS", f"**(ROWS | {{'groups': [{named!r}]}})"))
        assert outcomes(project) == {"test_models[good]": GOOD, "test_models[bad]": BAD}

    def test_a_report_whose_name_is_no_text(self, project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        name = "r\udcff.json"
        monkeypatch.setattr("sys.argv", ["pytest", f"--fairguard-report={name}"])
        write(project.path, STRONGER)
        project.runpytest_inprocess(f"--fairguard-report={name}")
        assert set(json.loads((project.path / name).read_text())["checks"]) != set()

    def test_a_method_that_classes_inherit(self, project: pytest.Pytester) -> None:
        write(
            project.path,
            """
            class Base:
                def test_model(self): ...

            @fairness_preserved(pruned="good.csv", **ROWS)
            class TestGood(Base): ...

            @fairness_preserved(pruned="bad.csv", **ROWS)
            class TestBad(Base): ...
            """,
        )
        assert outcomes(project) == {"TestGood::test_model": GOOD, "TestBad::test_model": BAD}

    def test_options_in_memory_are_told_apart(self, project: pytest.Pytester) -> None:
        write(
            project.path,
            """
            import csv
            from datetime import date

            def answers(name):
                with open(f"{name}.csv") as stream:
                    return [int(row["prediction"]) for row in csv.DictReader(stream)]

            LATER = {"group": "sex=b", "until": date(2999, 1, 1), "why": "known"}
            MARKS = {
                "good": fairness_preserved(pruned=answers("good")),
                "bad": fairness_preserved(pruned=answers("bad")),
                "accepted": fairness_preserved(pruned=answers("bad"), accept=[LATER]),
            }

            @pytest.mark.parametrize("m", [pytest.param(m, marks=MARKS[m]) for m in MARKS])
            @fairness_preserved(**{**ROWS, "dense": answers("dense")})
            def test_models(m): ...
            """,
        )
        assert outcomes(project) == {
            "test_models[good]": GOOD,
            "test_models[bad]": BAD,
            "test_models[accepted]": GOOD,
        }


OBJECTS = """
    import numpy as np
    import pytest
    import torch

    def table(name, group):
        import pandas as pd
        return pd.read_csv(f"{name}.csv")["prediction"]

    def array(name, group):
        return np.loadtxt(f"{name}.csv", skiprows=1)

    def tensor(name, group):
        return torch.tensor(array(name, group))

    def closure(name, group):
        return lambda rows: array(name, group)

    def own(name, group):
        return array("bad" if group == "sex=b" else name, group)

    def pytest_collection_modifyitems(items):
        for item in items:
            pruned = {made}("good", item.callspec.params["fairness_group"])
            item.add_marker(pytest.mark.fairness_preserved(pruned=pruned))
"""
ONE_TEST = "@fairness_preserved(**ROWS)\ndef test_models(): ..."


class TestObjectsOfEachItem:
    @pytest.mark.parametrize("made", ["array", "table", "tensor"])
    def test_what_is_equal_is_one_question(self, project: pytest.Pytester, made: str) -> None:
        project.makeconftest(OBJECTS.replace("{made}", made))
        write(project.path, ONE_TEST)
        assert outcomes(project, "--fairguard-update") == {"test_models": GOOD}
        project.runpytest_inprocess().assert_outcomes(passed=3)

    @pytest.mark.parametrize("made", ["own", "closure"])
    def test_what_is_not_is_refused_with_a_way_out(self, project: pytest.Pytester, made: str) -> None:
        """A closure tells nobody what it holds."""
        project.makeconftest(OBJECTS.replace("{made}", made))
        write(project.path, ONE_TEST)
        result = project.runpytest_inprocess()
        result.assert_outcomes(errors=3)
        result.stdout.fnmatch_lines(["not judged: two tests *; if it is one test, give all its items the same *"])


class TestOneNameForTwoQuestions:
    def refused(self, project: pytest.Pytester, *options: str, errors: int) -> None:
        result = project.runpytest_inprocess(*options)
        assert result.parseoutcomes().get("errors") == errors
        result.stdout.fnmatch_lines(["not judged: two tests are called *test_models* and ask different things, *"])

    def test_ids_that_read_alike(self, project: pytest.Pytester) -> None:
        write(
            project.path,
            """
            @pytest.mark.parametrize("b", [pytest.param(1, id="y-z"), pytest.param(2, id="z")])
            @pytest.mark.parametrize("a", [pytest.param(1, id="x"), pytest.param(2, id="x-y", marks=pruned("bad"))])
            @fairness_preserved(pruned="good.csv", **ROWS)
            def test_models(a, b): ...
            """,
        )
        self.refused(project, errors=6)

    def test_modules_outside_the_root(self, project: pytest.Pytester) -> None:
        """pytest calls both by the function alone."""
        (project.path / "root").mkdir()
        for name in ("good", "bad"):
            (project.path / name).mkdir()
            test = f"@fairness_preserved(pruned='../{name}.csv', **UP)\ndef test_models(): ..."
            up = "UP = {**ROWS, 'dense': '../dense.csv', 'data': '../rows.csv'}\n"
            write(project.path / name, up + test, "test_fair.py")
        self.refused(project, "--import-mode=importlib", "--rootdir=root", "good", "bad", errors=6)

    def test_marks_that_come_after_the_names(self, project: pytest.Pytester) -> None:
        project.makeconftest(
            """
            import pytest

            def pytest_collection_modifyitems(items):
                for item in items:
                    item.add_marker(pytest.mark.fairness_preserved(pruned=f"{item.callspec.params['m']}.csv"))
            """
        )
        test = '@pytest.mark.parametrize("m", ["good", "bad"])\n@fairness_preserved(**ROWS)\ndef test_models(m): ...'
        write(project.path, test)
        self.refused(project, errors=6)


class TestLock:
    def test_each_has_its_own_record(self, project: pytest.Pytester) -> None:
        write(project.path, MARKED)
        project.runpytest_inprocess("--fairguard-update")
        assert set(lock.read(project.path / lock.FILE)) == {f"test_fair.py::test_models[{m}]" for m in ("good", "bad")}
        result = project.runpytest_inprocess()
        result.stdout.fnmatch_lines(["fairness.lock: 0 worse, 0 new, 0 better, 0 gone, 12 same"])

    @pytest.mark.parametrize("selected", [(), ("-k", "bad")], ids=["all", "some"])
    def test_a_test_whose_parameters_come_into_the_name_takes_its_old_record_along(
        self, project: pytest.Pytester, selected: tuple[str, ...]
    ) -> None:
        """However few of its items run: collected are all."""
        write(project.path, MARKED.replace("bad.csv", "good.csv"))
        project.runpytest_inprocess("--fairguard-update")
        assert set(lock.read(project.path / lock.FILE)) == {"test_fair.py::test_models"}
        write(project.path, MARKED)
        old = ["fairness.lock: 0 worse, * new, 0 better, 0 gone, 0 same", "  gone: test_fair.py::test_models"]
        for options in ((), ("--fairguard-update=improved",), ("--fairguard-update",)):
            assert "test_fair.py::test_models" in lock.read(project.path / lock.FILE)
            result = project.runpytest_inprocess(*options, *selected)
            result.stdout.fnmatch_lines(old, consecutive=True)
        heard = ("bad",) if selected else ("bad", "good")
        assert set(lock.read(project.path / lock.FILE)) == {f"test_fair.py::test_models[{m}]" for m in heard}
        result = project.runpytest_inprocess(*selected)
        result.stdout.fnmatch_lines([f"fairness.lock: 0 worse, 0 new, 0 better, 0 gone, {6 * len(heard)} same"])

    def test_an_item_that_is_marked_later_has_its_own_record_too(self, project: pytest.Pytester) -> None:
        project.makeconftest(
            """
            import pytest

            def pytest_itemcollected(item):
                if "neither" in item.name:
                    options = {"dense": "dense.csv", "data": "rows.csv", "label": "y", "groups": ["sex"]}
                    item.add_marker(pytest.mark.fairness_preserved(pruned="good.csv", **options))
            """
        )
        write(project.path, MARKED)
        project.runpytest_inprocess("--fairguard-update")
        result = project.runpytest_inprocess("-k", "bad")
        result.stdout.fnmatch_lines(["fairness.lock: 0 worse, 0 new, 0 better, 0 gone, 6 same; not run: 2"])
        result.stdout.no_fnmatch_line("*gone: *")

    def test_a_declared_test_is_not_gone_whatever_its_parameters_are_called(self, project: pytest.Pytester) -> None:
        """Nor is a second call within one test."""
        write(
            project.path,
            """
            @pytest.mark.parametrize("m", [pytest.param(m, id=f"a::{m}", marks=pruned(m)) for m in ("good", "bad")])
            @fairness_preserved(**ROWS)
            def test_models(m): ...

            def test_calls(fairness):
                for _ in range(2):
                    fairness("dense.csv", "good.csv", "rows.csv", label="y", groups="sex")
            """,
        )
        write(project.path, "@fairness_preserved(pruned='good.csv', **ROWS)\ndef test_other(): ...", "test_other.py")
        project.runpytest_inprocess("--fairguard-update")
        result = project.runpytest_inprocess("test_other.py")
        result.stdout.fnmatch_lines(["fairness.lock: 0 worse, 0 new, 0 better, 0 gone, 6 same; not run: 4"])
        result.stdout.no_fnmatch_line("*gone: *")


def test_what_is_run_again_is_a_test_that_pytest_knows(project: pytest.Pytester) -> None:
    write(
        project.path,
        """
        def answers(*rows):
            import csv
            with open("bad.csv") as stream:
                return [int(row["prediction"]) for row in csv.DictReader(stream)]

        @pytest.mark.parametrize("m", [pytest.param("bad", marks=pytest.mark.fairness_preserved(pruned=answers())),
                                       pytest.param("good", marks=pruned("good"))])
        @fairness_preserved(**ROWS)
        def test_models(m): ...

        def test_calls(fairness):
            for pruned in ("good.csv", answers()):
                fairness("dense.csv", pruned, "rows.csv", label="y", groups="sex")
        """,
    )
    result = project.runpytest_inprocess()
    again = {line for line in result.outlines if line.startswith("reproduce: ")}
    assert again == {f"reproduce: pytest test_fair.py::{test}" for test in ("test_models", "test_calls")}
