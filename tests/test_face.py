"""What a program imports: functions under the names the pages give, whatever was imported before, nothing early."""

import subprocess
import sys
from importlib import import_module
from unittest import mock

import pytest

HEAVY = "import sys; assert not {'torch', 'numpy', 'pandas', 'pytest'} & set(sys.modules), 'imported early'"


def python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["fairguard", "fairguard.repair"])
def test_importing_loads_nothing_heavy(package: str) -> None:
    python(f"import {package}; {HEAVY}")


FUNCTIONS = [
    ("fairguard", "check", "checking"),
    ("fairguard.repair", "repair", "repair.repairing"),
    ("fairguard.repair", "prune", "repair.pruning"),
]


@pytest.mark.parametrize("before", ["pass", "import fairguard.{home}", "from fairguard.{home} import {name}"])
@pytest.mark.parametrize(("package", "name", "home"), FUNCTIONS)
def test_a_name_is_the_function_and_not_its_module(before: str, package: str, name: str, home: str) -> None:
    python(
        f"import fairguard\n{before.format(home=home, name=name)}\n"
        f"from {package} import {name} as imported\n"
        f"from fairguard.{home} import {name} as own\n"
        f"assert imported is own is {package}.{name} and callable(own)"
    )


@pytest.mark.parametrize(("package", "name", "home"), FUNCTIONS)
def test_a_function_is_faked_and_real_again_afterwards(package: str, name: str, home: str) -> None:
    at, where = import_module(package), f"{package}.{name}"
    real = getattr(import_module(f"fairguard.{home}"), name)
    assert name in dir(at)
    with mock.patch(where) as fake:
        import_module(f"fairguard.{home}")
        assert getattr(at, name) is fake
    assert getattr(at, name) is real
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, len)
        with mock.patch(where):
            pass
        assert getattr(at, name) is len
    assert getattr(at, name) is real


@pytest.mark.parametrize(("package", "name", "home"), FUNCTIONS)
def test_what_was_put_in_a_functions_place_stays_when_its_module_is_imported(
    package: str, name: str, home: str
) -> None:
    python(
        f"import fairguard, {package}\n{package}.{name} = len\nimport fairguard.{home}\n"
        f"from {package} import {name}\nassert {name} is len\n"
        f"del {package}.{name}\nassert {package}.{name}.__module__ == 'fairguard.{home}'"
    )
