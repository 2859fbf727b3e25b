"""Where the plugin is not loaded nothing is judged, and no test passes that was to judge: runs as users do them."""

import pytest

MARKED = """
    import unittest
    import pytest
    from fairguard import fairness_preserved

    FILES = {"dense": "dense.pt", "pruned": "pruned.pt", "data": "rows.csv"}

    @fairness_preserved(**FILES)
    def test_empty(): ...

    @fairness_preserved
    def test_bare(): ...

    @fairness_preserved(**FILES)
    def test_with_a_body(tmp_path):
        assert tmp_path.exists()

    @fairness_preserved(**FILES)
    async def test_asynchronous(): ...

    @pytest.mark.parametrize("number", [1])
    @fairness_preserved(**FILES)
    def test_parametrised(number): ...

    @pytest.mark.parametrize("number", [pytest.param(1, marks=fairness_preserved(**FILES))])
    def test_marked_parameter(number): ...

    @fairness_preserved(**FILES)
    class TestClass:
        def test_method(self): ...

    class TestCase(unittest.TestCase):
        @fairness_preserved(**FILES)
        def test_method(self): ...
"""
TESTS = 8
MODULE = """
    from fairguard import fairness_preserved

    pytestmark = fairness_preserved(dense="dense.pt", pruned="pruned.pt", data="rows.csv")

    def test_of_a_marked_module(): ...
"""
MISSING = "not judged: the fairguard plugin is not loaded.*add `-p pytest_fairguard`.*"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_marked=MARKED, test_module=MODULE, test_other="def test_other(): ...")
    return pytester


@pytest.mark.parametrize("how", ["-p no:fairguard", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"])
def test_no_test_passes_unjudged(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how.startswith("PYTEST"):
        monkeypatch.setenv(how, "1")
    result = project.runpytest_subprocess(*(how.split() if how.startswith("-p") else ()))
    result.assert_outcomes(passed=1, errors=TESTS + 1, warnings=1)
    assert len([line for line in result.outlines if line.startswith("not judged: ")]) == TESTS + 1
    result.stdout.re_match_lines([MISSING])


def test_named_by_hand_the_plugin_judges(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = project.runpytest_subprocess("-p", "pytest_fairguard", "-k", "empty or module")
    result.assert_outcomes(errors=2, deselected=TESTS)
    result.stdout.fnmatch_lines(["not judged: * does not exist*"])


def test_a_list_of_marks_takes_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MODULE.replace("= fair", "= [fair").replace('.csv")', '.csv"), fairness_preserved()]'))
    pytester.runpytest_inprocess().assert_outcomes(errors=1)


def test_called_by_hand_a_test_is_a_plain_function(project: pytest.Pytester) -> None:
    project.makepyfile(by_hand="from test_marked import *\ntest_empty()\nTestClass().test_method()\nprint('fine')")
    assert project.runpython(project.path / "by_hand.py").ret == 0
