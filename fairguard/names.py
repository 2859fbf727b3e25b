"""What values, columns, classes and groups are called, and what somebody's words for them mean. Knows no file.

Names come from strangers' files: all are safe to print, and different texts get different names.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

LONGEST = 80
"""A name of so many characters or more is cut to so many."""
_JOINERS = "\u200c\u200d"
"""Without ink, and yet part of Persian words and of emoji."""
_TOLD = '\\"'
_CUT = re.compile(rf".{{{LONGEST - 12}}}\.\.\.~[0-9a-f]{{8}}")


def shown(name: object, *, width: int = 80) -> str:
    """Return a name that a file chose, safe to print: no control characters, at most ``width`` characters."""
    text = "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(str(name)[:4000].split())[: width + 1]
    )
    return text if len(text) <= width else f"{text[: width - 3]}..."


def clean(text: str) -> str:
    """Return what a value, column or class is called: the text as it stands, where it can be shown.

    Control characters are written out, in quotes; what is overlong is cut and keeps a hash. Different texts get
    different names: two groups never become one.
    """
    name = text
    quoted = text[:1] == text[-1:] == '"' and "\\" in text  # would be taken for one of those below
    if quoted or not all(map(_shows, text)):
        name = f'"{"".join(c if _shows(c) and c not in _TOLD else _escaped(c) for c in text)}"'
    if len(name) < LONGEST:
        return name
    end = f"...~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return name[: LONGEST - len(end)].replace('"', "'") + end


def name_meant(given: str, names: Collection[str]) -> str:
    """Return the one of these names that somebody's words mean, as it is shown or as the data has it.

    Where there is none, the words.
    """
    name = given if given in names else clean(given)
    return name if name in names else given


def group_meant(given: str, groups: Collection[str]) -> str:
    """Return the one of these groups that somebody's words mean, such as ``race=Black & sex=F``; else the words."""
    return given if given in groups else next((group for group in groups if _same_group(given, group)), given)


def _same_group(given: str, group: str) -> bool:
    ours, theirs = given.split(" & "), group.split(" & ")
    among = len(ours) == len(theirs) > 1 and all(map(_same_value, ours, theirs))
    return among or _same_value(given, group)


def named(given: str) -> str:
    """Return the name of what somebody wrote: itself where it is such a name already, as a report shows it."""
    return given if _CUT.fullmatch(given) or text_behind(given) != given else clean(given)


def text_behind(name: str) -> str:
    """Return the text that :func:`clean` put in quotes; what it left alone or cut stays as it is."""
    if len(name) < 2 or not name[0] == name[-1] == '"' or "\\" not in name:
        return name
    try:
        text = name[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeDecodeError:
        return name
    return text if clean(text) == name else name


def _same_value(given: str, group: str) -> bool:
    """Return whether two spellings of ``column=value`` mean the same, wherever their equals signs lie."""
    ours, theirs = set(_halves(given)), set(_halves(group))
    return given == group or not theirs.isdisjoint((clean(column), clean(value)) for column, value in ours)


def _halves(text: str) -> Iterable[tuple[str, str]]:
    return ((text[: at.start()], text[at.end() :]) for at in re.finditer("=", text))


def _shows(sign: str) -> bool:
    return sign.isprintable() or sign in _JOINERS or unicodedata.category(sign) == "Zs"


def _escaped(sign: str) -> str:
    return {"\\": "\\\\", '"': "\\x22"}.get(sign) or sign.encode("unicode_escape").decode()


def seed_roles(count: int) -> tuple[str, ...]:
    """Return what ``count`` models pruned alike from other seeds are called: ``seed 1``, ``seed 2``, ..."""
    return tuple(f"seed {number}" for number in range(1, count + 1))


def listed(names: list[str], *, most: int = 4) -> str:
    """Return the first few names that a file chose, safe to print, and how many more there are."""
    return first_few(names, most=most, told=shown)


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that stands there twice; ``None`` where each stands there once."""
    seen = set[str]()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def first_few(things: Sequence[Any], *, most: int, between: str = ", ", told: Callable[[Any], str] = str) -> str:
    """Return the first few of ``things``, each as it is ``told``, and how many more there are."""
    more = f" and {len(things) - most:,} more" if len(things) > most else ""
    return between.join(map(told, things[:most])) + more
