"""What a program imports: functions under the names the pages give, whatever was imported before, nothing early."""

import subprocess
import sys

import pytest

HEAVY = "import sys; assert not {'torch', 'numpy', 'pandas', 'pytest'} & set(sys.modules), 'imported early'"


def python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["fairguard", "fairguard.repair"])
def test_importing_loads_nothing_heavy(package: str) -> None:
    python(f"import {package}; {HEAVY}")


@pytest.mark.parametrize("before", ["pass", "import fairguard.{home}", "from fairguard.{home} import {name}"])
@pytest.mark.parametrize(
    ("package", "name", "home"),
    [
        ("fairguard", "check", "check"),
        ("fairguard.repair", "repair", "repair.repair"),
        ("fairguard.repair", "prune", "repair.prune"),
    ],
)
def test_a_name_is_the_function_and_not_its_module(before: str, package: str, name: str, home: str) -> None:
    python(
        f"import fairguard\n{before.format(home=home, name=name)}\n"
        f"from {package} import {name} as imported\n"
        f"from fairguard.{home} import {name} as own\n"
        f"assert imported is own is {package}.{name} and callable(own)"
    )
