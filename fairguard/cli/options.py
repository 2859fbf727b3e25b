"""Options that several commands share, and how they become settings: only what was typed overrides the file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fairguard.config import TABLES, Settings, load_settings, load_table, merged
from fairguard.errors import ConfigError
from fairguard.metrics import Metric
from fairguard.repair.budget_text import parsed

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DATA = (
    click.option("--data", metavar="FILE|MODULE:CALLABLE", help="Labelled rows: CSV, Parquet, npz, or a callable."),
    click.option("--label", metavar="COL", help="Column of the true label."),
    click.option(
        "--group",
        "groups",
        multiple=True,
        metavar="COL",
        help="Sensitive feature, once for each; age:25,45,65 bins a number; class is the label itself.",
    ),
    click.option("--id", "id", metavar="COL", help="Column that names the rows, and joins recorded predictions."),
    click.option("--features", metavar="A,B,C", help="Feature columns; default: all but label, groups and id."),
    click.option(
        "--transform",
        metavar="MODULE:CALLABLE",
        help="Turns a batch of the table, or of its --features, into what the models take.",
    ),
    click.option("--classes", metavar="A,B,C", help="Class names in the order of the models' outputs; default sorted."),
    click.option("--weight", metavar="COL", help="Column of row weights."),
    click.option("--cluster", metavar="COL", help="Column that names the person, where a person has several rows."),
)
MODELS = (
    click.option("--model", metavar="MODULE:FACTORY", help="Builds the network that a state dict belongs to."),
    click.option("--model-pruned", metavar="MODULE:FACTORY", help="Builds the pruned one, where its shapes differ."),
    click.option(
        "--threshold", type=float, help="Cut of a single output; default 0 for logits, 0.5 for probabilities."
    ),
    click.option("--output-key", metavar="NAME", help="Which output, where a model returns several."),
    click.option("--batch-size", type=click.IntRange(1), help="Rows per forward pass; default 256."),
    click.option("--per-row", is_flag=True, help="Predict one row at a time."),
    click.option("--device", metavar="auto|cpu|cuda[:N]", help="Where torch models run; default auto."),
    click.option("--provider", metavar="NAME", help="onnxruntime provider: cpu, cuda, tensorrt, ..."),
    click.option("--limit", metavar="SIZE", help="Most memory that a model file may claim: 64GiB."),
    click.option("--trust", is_flag=True, help="Open files that run code when opened."),
)
POLICY = (
    click.option(
        "--margin", multiple=True, metavar="[METRIC=]X", help="Tolerated excess drop; default 0.02, two points."
    ),
    click.option("--alpha", type=float, help="Error rate; default 0.05, for a release; 0.01 for every pull request."),
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help=f"Gated, once for each: {', '.join(Metric)}; default accuracy, and recall and fpr of two classes.",
    ),
    click.option("--min-group", type=int, help="Groups with fewer rows are listed as untested; default 20."),
    click.option("--intersections", type=int, help="Judge products of up to so many columns; default 2; 1 for none."),
    click.option(
        "--favourable", metavar="LABEL", help="The label that is good to receive; default the second class of two."
    ),
    click.option(
        "--untested",
        type=click.Choice(["warn", "fail"]),
        help="Whether an untested group forbids 'preserved'; default warn.",
    ),
    click.option("--strict", is_flag=True, help="Regressed only if the corrected lower bound exceeds the margin."),
    click.option("--looks", type=int, help="Planned looks at growing data."),
    click.option("--look", type=int, help="Which look this is, from 1."),
    click.option("--seed", type=int, help="Seed of everything random in the verdict."),
)


def _budget_known(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    """Return a budget as it was given; a misspelt one is refused."""
    if given is not None:
        parsed(given)
    return given


TAUGHT = (
    click.option("--train", metavar="FILE|MODULE:CALLABLE", help="Rows to train on; --data is then for the verdict."),
    click.option("--verify", metavar="FILE|MODULE:CALLABLE", help="Rows for the verdict; --data is then trained on."),
)
TRAINING = (
    click.option(
        "--budget",
        metavar="1.5x|10min|20epochs",
        callback=_budget_known,
        help="Cost; 1x is one plain retraining, a time is an estimate; default 1.5x.",
    ),
    click.option("--for", "only", multiple=True, metavar="GROUP", help="Constrain these groups only: race=Black."),
    click.option("--lr", type=click.FloatRange(0, min_open=True), help="Highest learning rate; default 0.002."),
    click.option("--amp", type=click.Choice(["auto", "bf16", "off"]), help="Mixed precision; auto: on a GPU."),
)
NOT_IN_FILES = ("output", "resume", "config", "format", "verbose", "quiet")
"""Options of this one run, which no configuration file may give."""


def _own_table(context: click.Context, option: click.Parameter, config: Path | None) -> Path | None:
    """Take the defaults of the command's own options from its table in the configuration file."""
    command = context.command.name or ""
    if command in TABLES:
        shared = {*Settings.model_fields, *NOT_IN_FILES, "margin"}
        own = [p for p in context.command.params if isinstance(p, click.Option) and p.name not in shared]
        named = {param.opts[-1].removeprefix("--").replace("-", "_"): param for param in own}
        given = load_table(command, named, config)
        context.default_map = {
            named[name].name or name: _as_typed(named[name], value, f"[{command}]: option {name!r}")
            for name, value in given.items()
        }
    return config


def _as_typed(option: click.Option, value: Any, where: str) -> Any:
    """Return a value of a file as click takes it; one alone may stand for a list of it.

    Raises:
        ConfigError: a list or a table where one value is wanted, or no boolean for a switch.
    """
    values = value if isinstance(value, list) and option.multiple else [value]
    if option.is_flag != isinstance(value, bool):
        raise ConfigError(f"{where} is {value!r}: give {'true or false' if option.is_flag else 'a value'}.")
    if any(isinstance(each, list | dict) for each in values):
        raise ConfigError(f"{where} is {value!r}: give one value{', or a list of them' if option.multiple else ''}.")
    return values if option.multiple else value


CONFIG = (
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        callback=_own_table,
        help="fairguard.toml or pyproject.toml to read.",
    ),
)


SECTIONS = {"data": "Rows", "model": "Models", "margin": "What counts as harm", "seeds": "More", "flips": "Report"}
"""What a section of the help is called, by the option that begins it."""


class Sectioned(click.Command):
    """A command whose help lists its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a section for each kind."""
        sections: dict[str, list[tuple[str, str]]] = {}
        title = "Options"
        for param in self.get_params(ctx):
            title = SECTIONS.get(param.name or "", title)
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(title, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


class ManyFiles(Sectioned):
    """A command whose ``--seeds`` takes every word up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its words, which is how click knows it."""
        spelled: list[str] = []
        taking = False
        for word in args:
            if word.startswith("-"):
                taking = word == "--seeds"
                spelled += [] if taking else [word]
            else:
                spelled += ["--seeds", word] if taking else [word]
        return super().parse_args(ctx, spelled)


def options(*groups: tuple[Decorator, ...]) -> Decorator:
    """Return a decorator that adds the options of ``groups`` in their order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return decorate


def taken(typed: dict[str, Any], group: tuple[Decorator, ...]) -> dict[str, Any]:
    """Take the options of ``group`` out of what was ``typed`` and return those that were given."""
    holder = click.Command(None)
    for option in group:
        option(holder)
    return _given({param.name or "": typed.pop(param.name or "") for param in holder.params})


def _given(typed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in typed.items() if value is not None and value is not False and value != ()}


def settings_from(config: Path | None, **typed: Any) -> Settings:
    """Return the settings of the file, overridden by what was typed on the command line."""
    given = _given(typed)
    for name in ("features", "classes"):
        if name in given:
            given[name] = tuple(part.strip() for part in given[name].split(","))
    given |= _margins(given.pop("margin", ()))
    return merged(load_settings(config), given)


def typed_again(other: str, *, leave_out: Collection[str]) -> str:
    """Return the options typed to the running command that another takes as well, as one would type them to it.

    Args:
        other: name of the command that comes next.
        leave_out: names of options that mean something else there.
    """
    context = click.get_current_context()
    group = context.find_root().command
    following = group.get_command(context, other) if isinstance(group, click.Group) else None
    known = {param.name for param in following.params} - set(leave_out) if following is not None else set()
    words: list[str] = []
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if isinstance(param, click.Option) and param.name in known and source is ParameterSource.COMMANDLINE:
            value = context.params[param.name]
            values = value if param.multiple else [value]
            words += [w for v in values for w in ([param.opts[0]] if param.is_flag else [param.opts[0], str(v)])]
    return shlex.join(words)


def _margins(typed: tuple[str, ...]) -> dict[str, Any]:
    """Return ``margin`` and ``margins`` of values such as ``0.02`` and ``recall=0.05``."""
    found: dict[str, Any] = {}
    for text in typed:
        name, _, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise ConfigError(f"--margin {text!r} is no number; write 0.02 or recall=0.05.") from None
        if name or "=" in text:
            found.setdefault("margins", {})[name] = number
        else:
            found["margin"] = number
    return found
