"""What counts as harm, and how much proof a verdict needs. Knows nothing of files, models or screens."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from fairguard.errors import ConfigError, did_you_mean
from fairguard.metrics import Metric

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TRIED = re.compile(r".*\[.*|str|int|float|bool|path|callable")
"""What pydantic calls the members of a union, where it tells of each of them."""


def _each_once(value: Any) -> Any:
    """Return one name or several as names that stand once each: a metric named twice is one metric."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(each for place, each in enumerate(value) if each not in value[:place])
    return value


def as_name(value: Any) -> Any:
    """Return what is named by a whole number or a boolean, of Python or of numpy, as its name; else ``value``."""
    if str(value) in ("False", "True"):
        return str(value)
    try:
        return str(operator.index(value))
    except TypeError:
        return value


Share = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]


class Policy(BaseModel):
    """How a verdict is reached: the metrics that are gated, the tolerance on them and the error rates.

    All shares are fractions: ``margin=0.02`` allows an excess drop of two percentage points.

    Raises:
        ConfigError: an unknown option or a value out of range, when built through :meth:`of`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: Annotated[tuple[Metric, ...], BeforeValidator(_each_once)] = ()
    """Gated metrics, all in one family. Empty: accuracy, and for binary labels recall and fpr too."""
    margin: Share = 0.02
    """Tolerated excess drop of a group over the rest."""
    margins: dict[Metric, Share] = Field(default_factory=dict)
    """Tolerance by metric, where it differs from ``margin``."""
    alpha: Share = 0.05
    """Chance of a false ``regressed`` over the whole family, and of a false ``preserved``."""
    intersections: Annotated[int, Field(ge=1, le=4)] = 2
    """Products of at most so many columns are judged as groups of their own; 1: none."""
    min_group: Annotated[int, Field(ge=1)] = 20
    """Groups with fewer rows are listed as untested."""
    untested: Literal["warn", "fail"] = "warn"
    """``fail``: no verdict of ``preserved`` while a group is untested."""
    strict: bool = False
    """``regressed`` needs the corrected lower bound itself to exceed the margin."""
    favourable: Annotated[str | None, BeforeValidator(as_name)] = None
    """The label that is good to receive, by name or number. Default: class ``1`` of binary labels."""
    permutations: Annotated[int, Field(ge=99)] = 9_999
    """Most random relabellings of the groups behind each p value; fewer settle most of them."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seed of everything random in the verdict."""
    looks: Annotated[int, Field(ge=1, le=100)] = 1
    """Planned looks at growing data; ``alpha`` is then spent by O'Brien and Fleming's plan. Beyond some dozens the
    boundary hardly moves any more, while the first looks spend nothing that any data could reach."""
    look: Annotated[int, Field(ge=1)] = 1
    """Which of the ``looks`` this one is, from 1."""

    @field_validator("look")
    @classmethod
    def _is_planned(cls, look: int, info: ValidationInfo) -> int:
        if look > info.data.get("looks", look):
            planned = info.data["looks"]
            raise ValueError(f"looks planned: {planned}. Plan more, or look at all data for the last time")
        return look

    @classmethod
    def of(cls, **options: Any) -> Policy:
        """Return a policy from keyword options; every mistake is one line with what would be possible."""
        for name in options:
            if name not in cls.model_fields:
                hint = did_you_mean(name, cls.model_fields) or f" Options: {', '.join(cls.model_fields)}."
                raise ConfigError(f"unknown policy option {name!r}.{hint}")
        try:
            return cls(**options)
        except ValidationError as error:
            raise ConfigError(validation_line(error)) from None

    def margin_of(self, metric: Metric) -> float:
        """Return the tolerated excess of ``metric``, as a fraction."""
        return self.margins.get(metric, self.margin)

    def idle_margin_warnings(self, gated: Iterable[str]) -> tuple[str, ...]:
        """Return a warning for every margin that decides nothing, for its metric is not among those ``gated``.

        A configuration that several checks share may name margins for more than one of them gates: no error.
        """
        used = {*map(str, gated), *map(str, self.metrics)}
        others = () if self.metrics else [metric for metric in Metric if metric in used]  # naming one drops the default
        return tuple(
            f"margin for {metric} is given, and {metric} is not gated: "
            f"add {' '.join(f'--metric {name}' for name in (*others, metric))}, or leave the margin out."
            for metric in self.margins
            if metric not in used
        )


def validation_line(error: ValidationError) -> str:
    """Return the first complaint of pydantic as one line that names option, value and rule."""
    errors = error.errors(include_url=False)
    first, where = errors[0], _option(errors[0])
    if first["type"] == "extra_forbidden":
        return f"unknown option {where!r}."
    others = len({*map(_option, errors)}) - 1
    more = f" ({others} more)" if others else ""
    possible = re.findall(r"'([^']*)'", first.get("ctx", {}).get("expected", ""))
    hint = did_you_mean(str(first["input"]), possible)
    if where == "margin" and isinstance(first["input"], dict):
        hint = " Margins by metric are an option of their own, `margins`."
    if where == "margins" and isinstance(first["input"], float):
        hint = " One margin for all metrics is an option of its own, `margin`."
    rule = first["msg"].removeprefix("Value error, ")
    return f"option {where!r}: {first['input']!r} is not valid: {rule[0].lower()}{rule[1:]}.{hint}{more}"


def _option(error: ErrorDetails) -> str:
    """Return which option a complaint is about, without the places in lists and the types that pydantic tried."""
    first, *inner = error["loc"]
    if "[key]" in inner:  # the key of a table is named as what is not valid
        return str(first)
    named = [part for part in inner if isinstance(part, str) and not _TRIED.fullmatch(part)]
    return ".".join([str(first), *named])
