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

    @fairness_preserved(**FILES)
    class TestClass:
        def test_method(self): ...

    class TestCase(unittest.TestCase):
        @fairness_preserved(**FILES)
        def test_method(self): ...
"""
TESTS = 7
MISSING = "not judged: the fairguard plugin is not loaded.*add `-p pytest_fairguard`.*"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_marked=MARKED, test_other="def test_other(): ...")
    return pytester


@pytest.mark.parametrize("how", ["-p no:fairguard", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"])
def test_no_test_passes_unjudged(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how.startswith("PYTEST"):
        monkeypatch.setenv(how, "1")
    result = project.runpytest_subprocess(*(how.split() if how.startswith("-p") else ()))
    result.assert_outcomes(passed=1, errors=TESTS, warnings=1)
    assert len([line for line in result.outlines if line.startswith("not judged: ")]) == TESTS
    result.stdout.re_match_lines([MISSING])


def test_named_by_hand_the_plugin_judges(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = project.runpytest_subprocess("-p", "pytest_fairguard", "-k", "empty")
    result.assert_outcomes(errors=1, deselected=TESTS)
    result.stdout.fnmatch_lines(["not judged: * does not exist*"])


ALONE = "fairness_preserved(dense='dense.pt', pruned='pruned.pt', data='rows.csv')"
HANDED_ON = {
    "module": f"pytestmark = {ALONE}\ndef test_it(): ...",
    "list of a module": f"pytestmark = [{ALONE}, pytest.mark.slow]\ndef test_it(): ...",
    "list of a class": f"class TestIt:\n    pytestmark = [{ALONE}]\n    def test_it(self): ...",
    "parameter": f"@pytest.mark.parametrize('n', [pytest.param(1, marks={ALONE})])\ndef test_it(n): ...",
    "list of a parameter": f"@pytest.mark.parametrize('n', [pytest.param(1, marks=[{ALONE}])])\ndef test_it(n): ...",
    "more options": f"@{ALONE}.with_args(margin=0.1)\ndef test_it(): ...",
    "added": f"@pytest.fixture(autouse=True)\ndef _(request): request.node.add_marker({ALONE})\ndef test_it(): ...",
}


@pytest.mark.parametrize("loaded", [True, False], ids=["with", "without"])
@pytest.mark.parametrize("code", HANDED_ON.values(), ids=HANDED_ON)
def test_a_marker_that_pytest_hands_on_passes_nothing_unjudged(
    pytester: pytest.Pytester, code: str, loaded: bool
) -> None:
    pytester.makepyfile(f"import pytest\nfrom fairguard import fairness_preserved\n{code}")
    pytester.makeini("[pytest]\nmarkers = slow")
    result = pytester.runpytest_subprocess(*([] if loaded else ["-p", "no:fairguard"]))
    if "request" not in code or not loaded:  # a mark added while a test is set up comes too late for any plugin
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*not judged: *"])


def test_items_may_be_marked_by_a_conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "from fairguard import fairness_preserved\n"
        "def pytest_collection_modifyitems(items):\n"
        "    for item in items: item.add_marker(fairness_preserved(margin=0.5))"
    )
    pytester.makepyfile("def test_it(): ...")
    assert pytester.runpytest_subprocess().ret in (0, 1), "no internal error"


def test_a_file_without_its_name_is_told_in_one_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "from fairguard import fairness_preserved\n@fairness_preserved('dense.csv')\ndef test_it(): ..."
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*takes names only, and 'dense.csv' has none; write dense=*"])


def test_called_by_hand_a_test_is_a_plain_function(project: pytest.Pytester) -> None:
    project.makepyfile(by_hand="from test_marked import *\ntest_empty()\nTestClass().test_method()\nprint('fine')")
    assert project.runpython(project.path / "by_hand.py").ret == 0
