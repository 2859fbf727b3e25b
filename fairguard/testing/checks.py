"""The checks of one pytest process: which groups they have, and each one's verdict, found once however many items ask.

Every path is seen from the project's root, as in its configuration. Knows nothing of pytest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import chdir
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fairguard import lock
from fairguard.checking import Counted, count_files, decide
from fairguard.config import Settings, load_settings, merged
from fairguard.errors import ConfigError, FairguardError
from fairguard.inputs.data import group_values
from fairguard.inputs.detect import RECORDED
from fairguard.inputs.groups import GroupSpec
from fairguard.inputs.rows import DataRecord
from fairguard.judge.counts import CountTable
from fairguard.names import name_meant
from fairguard.provenance import record_of
from fairguard.testing.cache import CountCache
from fairguard.testing.judged import OVERALL, Judged, command_of
from fairguard.testing.keys import counting_options, file_of, key_of, question_of
from fairguard.verdict import Verdict

Asked = Mapping[str, Any]


class Checks:
    """All checks that one process of a test run makes."""

    def __init__(
        self,
        *,
        root: Path,
        cache: Path | None = None,
        run: str = "",
        options: Asked | None = None,
        locked: Path | None = None,
    ) -> None:
        """Start without any verdict.

        Args:
            root: the project's folder.
            cache: folder for counts, shared with other processes; ``None``: this process alone.
            run: name of this run of tests, the same in all its processes.
            options: what was said for this run, stronger than what the tests say.
            locked: the lock file, where there may be one.
        """
        self._root, self._cache, self._run = root, cache, run
        self._options = dict(options or {})
        self._locked = locked
        self._wider: dict[str, dict[str, str]] = {}
        self._found: dict[tuple[str, str], Judged | FairguardError] = {}

    def groups(self, asked: Asked) -> list[str]:
        """Return the names of a check's items: its groups, and the verdict as a whole. Reads group columns only.

        What cannot be read is no error yet: the check itself will say it, when the test is set up.
        """
        try:
            with chdir(self._root):
                settings = self.settings(asked)
                values = group_values(settings.data, settings.groups, label=settings.label)
        except FairguardError:
            return [OVERALL]
        known = self._wider.setdefault(_family(settings), {})
        for group in settings.groups:
            known.setdefault(GroupSpec.parse(group).column, group)
        return [f"{column}={value}" for column, names in values.items() for value in names] + [OVERALL]

    def settings(self, asked: Asked) -> Settings:
        """Return the options of a check: those of the run, of the test, and of the project, the strongest first.

        Raises:
            ConfigError: an unknown option, or a value out of range.
        """
        return merged(merged(self._project, asked), self._options)

    def validate(self, asked: Asked) -> None:
        """Raise :class:`ConfigError` for options that no check could be made with."""
        with chdir(self._root):
            self.settings(asked)

    def declared(self, check: str, asked: Asked, *, test: str = "") -> Judged:
        """Return the verdict on what a test declares, found when the first of its items asks.

        Items share it that have one name and ask one thing, which must stay in memory for as long as this does.

        Raises:
            FairguardError: nothing could be judged; the same for every item.
        """
        key = check, question_of(asked)
        if key not in self._found:
            try:
                self._found[key] = self.judged(check, asked, test=test)
            except FairguardError as error:
                self._found[key] = error
        found = self._found[key]
        if isinstance(found, FairguardError):
            raise found
        return found

    def judged(self, check: str, asked: Asked, *, test: str = "") -> Judged:
        """Return the verdict on two models, named or in memory.

        Args:
            check: name of the check, in the lock file and in reports.
            asked: what the test itself says.
            test: what pytest calls the test, to run it again; default: its check's name.

        Raises:
            FairguardError: nothing could be judged.
        """
        with chdir(self._root):
            settings = self.settings(asked)
            self._check_named(settings)
            wider = self._widened(settings)
            key = key_of(wider, root=self._root, run=self._run)
            counted = _own(self._counts.get(key, lambda: _count(wider)), settings, wider)
            verdict = decide(counted, settings, search=True)
            differences = self._differences(check, verdict)
        said = {"dense": settings.dense, "pruned": settings.pruned, **asked, **self._options}
        command = command_of(said, test=test or check)
        return Judged(check, verdict, counted.comparison.margins, differences, command)

    @cached_property
    def _project(self) -> Settings:
        return load_settings()

    @cached_property
    def _counts(self) -> CountCache:
        return CountCache(self._cache)

    @cached_property
    def _records(self) -> dict[str, lock.Record]:
        return {} if self._locked is None else lock.read(self._locked)

    def _check_named(self, settings: Settings) -> None:
        known = self._project.inputs["config"] is not None
        where = "" if known else f" (no fairguard.toml or [tool.fairguard] was found in {self._root} or above it)"
        for name, what in (("dense", "a model file"), ("pruned", "a model file"), ("data", "a file of labelled rows")):
            if getattr(settings, name) is None:
                ways = f"give {what} as {name}=... in the marker, or {name} in [tool.fairguard]{where}"
                raise ConfigError(f"no {name}: {ways}.")

    def _differences(self, check: str, verdict: Verdict) -> tuple[lock.Difference, ...]:
        then = self._records.get(check)
        if then is None:
            return ()
        return lock.compare(then, lock.record_of(verdict), alpha=verdict.policy.alpha)

    def _widened(self, settings: Settings) -> Settings:
        """Return the settings with the groups of all tests on the same models and rows: one pass counts for all.

        Not where they have one pass each: of what is searched beside the groups, and of features that nobody names,
        for what is a group of one test is a feature in the others.
        """
        known = self._wider.get(_family(settings), {})
        own = {GroupSpec.parse(group).column: group for group in settings.groups}
        apart = (settings.discover and settings.discover_columns) or _takes_what_is_left(settings)
        if apart or any(known.get(column) != group for column, group in own.items()):
            return settings
        return settings.model_copy(update={"groups": tuple(known.values())})


def _takes_what_is_left(settings: Settings) -> bool:
    """Return whether the models may be fed with all columns that are no groups, nor anything else with a name."""
    if settings.features is not None or settings.transform is not None:
        return False
    models = (settings.dense, settings.pruned)  # recorded answers, of seeds too, are fed with nothing
    return not all(isinstance(m, str | Path) and file_of(str(m), settings).kind in RECORDED for m in models)


def _count(settings: Settings) -> Counted:
    return count_files(settings.dense, settings.pruned, settings.data, settings=settings, search=True)


def _own(counted: Counted, settings: Settings, wider: Settings) -> Counted:
    """Return what a check would have counted by itself, out of what was counted for all tests that share it.

    Its groups stand in its own order; columns that are no test's group (rows' clusters and weights, margins, what is
    searched) stay as they are; the record tells of its own options.
    """
    table = counted.comparison.margins
    own, shared = (_columns(each, table.columns) for each in (settings, wider))
    kept = [*own, *(column for column in table.columns if column not in shared)]
    order = [table.columns.index(column) for column in kept]
    margins = CountTable.of(
        kept,
        [table.levels[i] for i in order],
        table.classes,
        codes=table.cells[:, order],
        y=table.y,
        dense=table.dense,
        pruned=table.pruned,
        counts=table.counts,
    )
    comparison = replace(counted.comparison, margins=margins)
    data = DataRecord(**counted.record["data"])
    if groups := data.options.get("groups"):  # those of the shared pass, the first columns of its table
        data = replace(data, options=data.options | {"groups": tuple(groups[i] for i in order if i < len(groups))})
    record = record_of(*counted.models, data, settings)
    return replace(counted, comparison=comparison, record=counted.record | record)


def _columns(settings: Settings, columns: Collection[str]) -> list[str]:
    """Return the groups' columns as the table of counts calls them: a name too long to show is cut there."""
    found = (name_meant(group, columns) for group in settings.groups)
    return [name if name in columns else name_meant(GroupSpec.parse(name).column, columns) for name in found]


def _family(settings: Settings) -> str:
    """Return what tests have in common that may share one pass: everything that decides the counts but the groups."""
    options = {name: value for name, value in counting_options(settings).items() if name != "groups"}
    return repr(sorted((name, _plain(value)) for name, value in options.items()))


def _plain(value: Any) -> str:
    return str(value) if value is None or isinstance(value, str | int | float | Path | tuple) else f"object {id(value)}"
