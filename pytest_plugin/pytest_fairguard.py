"""The pytest plugin of fairguard: ``@fairness_preserved`` on tests, an item for each group.

Imports only pytest and the standard library; the package is loaded when the first marked test is collected, so a run
without one pays for this file alone. What a check is, and what is written at the end, is in ``fairguard.testing``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fairguard.testing.checks import Checks
    from fairguard.testing.judged import Judged
    from fairguard.verdict import Verdict

MARKER = "fairness_preserved"
SIGNATURE = (
    "fairness_preserved(*, dense, pruned, data, label, groups, model, features, margin, alpha, metrics, ...): judge "
    "a pruned model against its dense one, an item for each group; the options are those of `fairguard check`, and "
    "what is not given comes from [tool.fairguard]. A test with the fixture `fairness` calls it with its own models."
)
GROUP = "fairness_group"
OVERALL = "overall"
INCONCLUSIVE = ("warn", "fail", "skip")
UPDATES = ("new", "improved", "regressed")
SUFFIXES = (".html", ".json", ".sarif")
SESSION = "fairguard-session"

JUDGED = pytest.StashKey["Judged"]()
NOTES = pytest.StashKey[dict[str, dict[str, Any]]]()
UNJUDGED, FAILED = pytest.StashKey[bool](), pytest.StashKey[bool]()
CHECK = pytest.StashKey[str]()
"""Name of the check that an item belongs to, where its parameters are part of it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for this run, and the project's policy for the ini file."""
    group = parser.getgroup("fairguard", "fairness of compressed models")
    add = group.addoption
    add("--fairguard-margin", type=float, metavar="X", help="Tolerated excess drop in this run: 0.02 is two points.")
    add("--fairguard-alpha", type=float, metavar="X", help="Error rate in this run: 0.01 for every pull request.")
    add("--fairguard-device", metavar="NAME", help="Where models run in this run: auto, cpu or cuda.")
    add("--fairguard-inconclusive", choices=INCONCLUSIVE, help="What a test that cannot decide becomes.")
    text = "Write .html, .json, .sarif."
    add("--fairguard-report", action="append", type=_report, default=[], metavar="FILE", help=text)
    add(
        "--fairguard-update",
        nargs="?",
        const=UPDATES[:2],
        type=_updates,
        metavar="KINDS",
        help="Record findings in the lock file: new, improved (both by default), regressed; write a `=` before KINDS.",
    )
    parser.addini(
        "fairguard_inconclusive", "What a test that cannot decide becomes: warn, fail or skip.", default="warn"
    )
    parser.addini("fairguard_lock", "The lock file, relative to rootdir.", default="fairness.lock")


def _updates(text: str) -> tuple[str, ...]:
    kinds = tuple(part.strip() for part in text.split(","))
    wrong = [kind for kind in kinds if kind not in UPDATES]
    if wrong:
        raise argparse.ArgumentTypeError(
            f"{wrong[0]!r} is none of {', '.join(UPDATES)}; write --fairguard-update=new,improved before a file's name"
        )
    return kinds


def _report(text: str) -> Path:
    path = Path(text).absolute()
    if path.suffix not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text!r}: end the name in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no folder {path.parent}")
    return path


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and this process of the run."""
    config.addinivalue_line("markers", SIGNATURE)
    policy = config.getini("fairguard_inconclusive")
    if policy not in INCONCLUSIVE:
        raise pytest.UsageError(f"fairguard_inconclusive is {policy!r}; write one of {', '.join(INCONCLUSIVE)}.")
    config.pluginmanager.register(FairguardSession(config), SESSION)


class FairguardSession:
    """One process of a test run: makes items and judges them; the process that hears all reports closes the run."""

    def __init__(self, config: pytest.Config) -> None:
        """Start without any check; workers of pytest-xdist take the run's name from their controller."""
        self._config = config
        self._worker: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._run: str = (self._worker or {}).get("fairguard_run", f"{os.getpid()}-{time.time_ns()}")
        self._sender: dict[str, str] = {}
        self._heard: dict[str, list[dict[str, Any]]] = {}
        self._lines: list[str] = []
        self._ambiguous: set[str] = set()
        self._checks: Checks | None = None
        self._wanted = False

    def checks(self) -> Checks:
        """Return the checks of this process; the package is imported here.

        No property: pytest before 8.3.3 reads each attribute of a plugin, in runs without any marked test too.
        """
        if self._checks is None:
            self._checks = self._new_checks()
        return self._checks

    def _new_checks(self) -> Checks:
        from fairguard.testing.checks import Checks

        names = ("margin", "alpha", "device")
        given = {name: self._config.getoption(f"fairguard_{name}") for name in names}
        options = {name: value for name, value in given.items() if value is not None}
        root, cache = self._config.rootpath, self._cache()
        return Checks(root=root, cache=cache, run=self._run, options=options, locked=self._locked())

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Note that tests are to be run, and reports to be written: `pytest --fixtures` has a session too."""
        self._wanted = bool(self._config.option.fairguard_report) and not self._config.option.collectonly

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pycollect_makeitem(self, collector: Any, name: str, obj: Any) -> Generator[None, Any, Any]:
        """Give a marked test the fixture through which its groups come, and its items the name of their check.

        All items of the function are seen here, whatever is selected later, so that each has one name in every run.
        """
        if callable(obj) and collector.funcnamefilter(name) and _marked(collector, obj):
            pytest.mark.usefixtures(GROUP)(obj)
        made = yield
        items = [item for item in made if _declared(item)] if isinstance(made, list) else []
        if len(items) > 1:
            from fairguard.testing.items import parameters_of
            from fairguard.testing.keys import question_of

            if len({question_of(_asked(item)) for item in items}) > 1:
                for item in made:  # those too that are marked later: of one test, all checks have parameters or none
                    item.stash[CHECK] = _test(item) + parameters_of(item, GROUP)
        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Generator[None, None, None]:
        """Make an item of a declared test for each group; reads the groups' columns and runs no model.

        Before all other parameters, so that those of the test are what follows the group in an item's id.
        """
        if GROUP in metafunc.fixturenames and _declared(metafunc.definition):
            groups = self.checks().groups(_asked(metafunc.definition))
            metafunc.parametrize(GROUP, groups, ids=groups, indirect=True)
        yield

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Find the names under which different things are asked, in every process of the run alike."""
        first: dict[str, dict[str, Any]] = {}
        for item in items:
            if isinstance(item, pytest.Function) and _declared(item):
                from fairguard.testing.keys import same_question

                asked = _asked(item)
                if not same_question(first.setdefault(_check(item), asked), asked):
                    self._ambiguous.add(_check(item))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Judge what a test declares; whatever forbids a judgement is an error of the set-up."""
        _forget(item)
        if isinstance(item, pytest.Function) and _declared(item):
            from fairguard.testing.items import require_names

            check = _check(item)
            with _not_judged(item, check):
                require_names(item, MARKER)
                self._check_unambiguous(check)
                judged = self.checks().declared(check, _asked(item), test=_test(item))
            self._note(item, judged, _group(item))
            item.stash[JUDGED] = judged

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Fail a declared test whose group regressed, before its body runs."""
        judged = item.stash.get(JUDGED, None)
        if judged is not None:
            self._settle(item, judged, _group(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send new verdicts along with the report, which crosses to the controller of pytest-xdist by itself."""
        report = yield
        if call.when != "teardown":
            notes = item.stash.get(NOTES, {}).values()
            item.stash[FAILED] = failed = report.failed or item.stash.get(FAILED, False)  # subtests report first
            if report.failed and item.stash.get(UNJUDGED, False):
                report.when = "setup"  # not judged is an error, wherever in the test it was asked for
            # A test that passes has expected what could not be judged.
            report.__dict__.update(fairguard=[note for note in notes if failed or "error" not in note])
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear the verdicts of all processes: of a test that is run again, those of its last attempt."""
        if hasattr(report, "fairguard"):
            self._heard[report.nodeid] = report.fairguard

    def pytest_sessionfinish(self) -> None:
        """Write what the run was asked for, once, from the process that heard everything; reports in any case."""
        if self._worker is None and (self._wanted or any(self._heard.values())):
            self._close()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show a section if there is any verdict."""
        if self._lines:
            terminalreporter.section("fairguard")
            for line in self._lines:
                terminalreporter.write_line(line)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist which run it belongs to."""
        node.workerinput["fairguard_run"] = self._run

    def caller(self, item: pytest.Item) -> Callable[..., Verdict]:
        """Return the function behind the fixture ``fairness``."""
        from fairguard.testing.items import require_names

        asked = _asked(item)
        with _not_judged(item, item.nodeid):
            require_names(item, MARKER)
            self.checks().validate(asked)
        calls = count(1)

        def fairness(dense: Any, pruned: Any, data: Any = None, **options: Any) -> Verdict:
            """Return the verdict on two models; fail the test if a group regressed."""
            given = {"dense": dense, "pruned": pruned} | ({} if data is None else {"data": data})
            number = next(calls)
            name = item.nodeid if number == 1 else f"{item.nodeid}#{number}"
            with _not_judged(item, name):
                judged = self.checks().judged(name, {**asked, **options, **given}, test=item.nodeid)
            self._note(item, judged, OVERALL)
            self._settle(item, judged, OVERALL)
            return judged.verdict

        return fairness

    def _check_unambiguous(self, check: str) -> None:
        from fairguard.errors import ConfigError

        if check in self._ambiguous:
            raise ConfigError(
                f"two tests are called {check} and ask different things, and one lock file cannot hold both: give "
                f"the tests names, or their parameters ids, that tell them apart; if it is one test, give all its "
                f"items the same options and the same objects in memory."
            )

    def _note(self, item: pytest.Item, judged: Judged, group: str) -> None:
        """Put a group's numbers on the item, and the verdict itself on the first item of its check."""
        item.user_properties.extend(judged.properties(group).items())
        if self._sender.setdefault(judged.check, item.nodeid) == item.nodeid:
            _tell(item, judged.check, judged.verdict)

    def _settle(self, item: pytest.Item, judged: Judged, group: str) -> None:
        outcome = judged.outcome(group)
        bad = outcome == "regressed" or bool(judged.worse(group))
        for sentence in judged.verdict.warnings if group == OVERALL else ():
            with suppress(pytest.fail.Exception) if bad else nullcontext():  # a regression is told alone under -W error
                self._warn(item, sentence)
        if bad:
            pytest.fail(judged.message(group), pytrace=False)
        if outcome != "inconclusive":
            return
        doubt = judged.doubt(group)
        policy = self._config.getoption("fairguard_inconclusive") or self._config.getini("fairguard_inconclusive")
        if policy == "fail":
            pytest.fail(doubt, pytrace=False)
        if policy == "skip":
            pytest.skip(doubt)
        self._warn(item, doubt, inconclusive=True)

    def _warn(self, item: pytest.Item, sentence: str, *, inconclusive: bool = False) -> None:
        from fairguard.errors import FairguardWarning, FairnessInconclusive

        try:
            item.warn(FairnessInconclusive(sentence) if inconclusive else FairguardWarning(sentence))
        except FairguardWarning:  # the project makes warnings errors
            raise pytest.fail.Exception(sentence, pytrace=False) from None

    def _close(self) -> None:
        from fairguard.testing.closing import close_run

        self._lines = close_run(
            [note for notes in self._heard.values() for note in notes],
            root=self._config.rootpath,
            locked=self._locked(),
            update=self._config.getoption("fairguard_update"),
            reports=self._config.getoption("fairguard_report"),
            cache=self._cache(),
        )

    def _locked(self) -> Path:
        return self._config.rootpath / str(self._config.getini("fairguard_lock"))

    def _cache(self) -> Path | None:
        """Return the folder for counts, the same for all processes; ``None`` without pytest's cache."""
        cache = getattr(self._config, "cache", None)
        try:
            return None if cache is None else Path(cache.mkdir("fairguard"))
        except OSError:
            return None


@pytest.fixture
def fairness_group(request: pytest.FixtureRequest) -> str:
    """Return the group that this item of a ``@fairness_preserved`` test stands for: ``race=Black`` or ``overall``."""
    group: str = getattr(request, "param", OVERALL)
    return group


@pytest.fixture
def fairness(request: pytest.FixtureRequest) -> Callable[..., Verdict]:
    """Return ``fairness(dense, pruned, data, **options)``, which judges by the policy of the test's marker."""
    session: FairguardSession = request.config.pluginmanager.get_plugin(SESSION)  # type: ignore[assignment]
    return session.caller(request.node)


def _forget(item: pytest.Item) -> None:
    """Forget what an earlier attempt at an item found: plugins for flaky tests run the same item again."""
    keys: tuple[pytest.StashKey[Any], ...] = (JUDGED, NOTES, UNJUDGED, FAILED)
    for key in keys:
        if key in item.stash:
            del item.stash[key]
    item.user_properties[:] = [pair for pair in item.user_properties if not str(pair[0]).startswith("fairguard.")]


def _tell(item: pytest.Item, check: str, found: Verdict | str) -> None:
    """Put a check's verdict, or why it has none, on the item."""
    from fairguard.testing.notes import note_of

    file, line, _ = item.location
    item.stash.setdefault(NOTES, {})[check] = note_of(check, found, file=file, line=line)


@contextmanager
def _not_judged(item: pytest.Item, check: str) -> Iterator[None]:
    """Turn what forbids a judgement of a check into its one line."""
    from fairguard.errors import FairguardError

    try:
        yield
    except FairguardError as error:
        item.stash[UNJUDGED] = True
        _tell(item, check, str(error))
        raise pytest.fail.Exception(f"not judged: {error}", pytrace=False) from None


def _marked(collector: pytest.Collector, obj: Any) -> bool:
    own = getattr(obj, "pytestmark", ())
    marks = own if isinstance(own, list | tuple) else (own,)
    return (
        any(getattr(mark, "name", "") == MARKER for mark in marks) or collector.get_closest_marker(MARKER) is not None
    )


def _declared(node: pytest.Item) -> bool:
    """Return whether the marker alone says what to judge: the test does not ask for ``fairness``."""
    return node.get_closest_marker(MARKER) is not None and "fairness" not in getattr(node, "fixturenames", ())


def _asked(node: pytest.Item) -> dict[str, Any]:
    """Return the marker's options: those of its parameters before those of the test, its class and its module."""
    own = [mark for mark in getattr(getattr(node, "callspec", None), "marks", ()) if mark.name == MARKER]
    marks = [*own, *node.iter_markers(MARKER)]  # pytest has the parameters' behind the test's
    return {name: value for mark in reversed(marks) for name, value in mark.kwargs.items()}


def _test(item: pytest.Function) -> str:
    """Return the name of the test function, with its file and its class; parameters are none of it."""
    return "::".join(part for part in (getattr(item.parent, "nodeid", ""), item.originalname) if part)


def _check(item: pytest.Function) -> str:
    """Return the name of the check of which an item tells one group."""
    return item.stash.get(CHECK, _test(item))


def _group(item: pytest.Item) -> str:
    parameters: dict[str, str] = getattr(getattr(item, "callspec", None), "params", {})
    return parameters.get(GROUP, OVERALL)
