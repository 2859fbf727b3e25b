"""The house has floors: imports point down, and each heavy package has named hosts (see ARCHITECTURE.md)."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fairguard"

# Rooms from the ground up. A room may import rooms below it, and its own.
FLOORS: list[set[str]] = [
    {"errors", "metrics", "exit_codes", "names", "aligned", "progress", "dtypes"},
    {"policy", "files", "ranks"},
    {"verdict"},
    {"inputs", "config"},
    {"judge", "report", "decisions", "opening"},
    {"inference", "flips", "provenance", "schema", "acceptance", "in_memory"},
    {"suspicions"},
    {"preflight"},
    {"checking"},
    {"demo", "doctor", "plan", "repair", "strategies", "fuzz", "lock", "history"},
    {"testing"},
    {"cli", "__init__"},
    {"__main__"},
]

# Who may import what weighs much. Anything not named here may be imported anywhere.
HOSTS: dict[str, set[str]] = {
    "torch": {"ranks", "inputs", "repair", "demo"},
    "onnx": {"inputs"},
    "onnxruntime": {"inputs"},
    "safetensors": {"inputs", "repair"},
    "transformers": {"inputs"},
    "torchao": {"inputs"},
    "pyarrow": {"inputs", "flips", "schema", "fuzz"},
    "pandas": {"inputs", "verdict", "demo"},
    "fairlearn": set(),  # the oracle of tests and benchmarks; nothing of it runs in a check
    "sklearn": {"demo"},
    "hypothesis": {"strategies"},
    "pytest": {"testing"},
    "click": {"cli"},
    "rich": {"cli", "report", "aligned"},
    "jinja2": {"report"},
    "matplotlib": set(),  # it draws the figures of the benchmarks; no report needs it
    "scipy": {"judge", "plan"},
}

LINES = 40
"""Most lines of a function beside its docstring."""
LONGER: dict[str, str] = {
    "repair/task.py make_task": "a parameter and a field for all that a method may see",
    "repair/training.py train": "a parameter for all that methods do otherwise, and one loop with its state",
}
"""Functions with more, and why."""


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every import of a file, also those inside functions, but not those for type checkers alone.

    A name that is imported from a package may be a module of it, so both are given.
    """
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module != "fairguard":
                yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in (
            getattr(node.func, "id", ""),
            getattr(node.func, "attr", ""),
        ):
            yield from ((node.lineno, arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


FILES = sorted(PACKAGE.rglob("*.py"))


def floor(name: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if name in rooms:
            return number
    raise AssertionError(f"room {name!r} stands on no floor: give it one in FLOORS and in ARCHITECTURE.md")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    for line, module in imports(path):
        if not module.startswith("fairguard."):
            continue
        there = module.split(".")[1]
        if there == "__version__":  # a plain name of the package's face
            continue
        where = f"{path.relative_to(ROOT)}:{line}"
        if here == "__init__":  # the package's face hands names on from any floor
            continue
        assert there == here or floor(there) < floor(here), f"{where}: {here} imports {there}, which is not below it"


def test_the_judge_reads_counts_only() -> None:
    """No rows, no models and no options but the policy: whatever has counts can be judged."""
    for path in (PACKAGE / "judge").glob("*.py"):
        ours = {module.split(".")[1] for _, module in imports(path) if module.startswith("fairguard.")}
        assert all(name == "judge" or floor(name) <= floor("verdict") for name in ours), f"{path.name}: {ours}"


PAGE = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_page_draws_these_floors() -> None:
    drawn: dict[int, str] = {}
    number = 0
    for line in PAGE.split("```")[1].strip("\n").splitlines():
        number = int(line[:2]) if line[:2].strip() else number
        drawn[number] = f"{drawn.get(number, '')} {line[4:42]}"  # what stands behind that is its purpose
    above = {"__init__", "__main__"}
    for number, rooms in enumerate(FLOORS):
        for name in rooms - above:
            assert re.search(rf"\b{name}\b", drawn[number]), f"{name} is not drawn on floor {number}"


def test_the_page_draws_every_module_of_repair() -> None:
    section = PAGE[PAGE.index("## The way of one repair") : PAGE.index("## Decisions")]
    repair, telling = PACKAGE / "repair", PACKAGE / "repair" / "telling"
    modules = {path.stem for path in (*repair.glob("*.py"), *telling.glob("*.py"))} - {"__init__"}
    assert not {name for name in modules if not re.search(rf"\b{name}\b", section)}


def test_what_tells_of_a_repair_knows_nothing_of_how_it_was_done() -> None:
    for path in (PACKAGE / "repair" / "telling").glob("*.py"):
        ours = {module for _, module in imports(path) if module.startswith("fairguard.repair")}
        assert all(module.startswith("fairguard.repair.telling.") for module in ours), path.name


def test_no_modules_import_one_another() -> None:
    """Also not inside functions: within a room too, what two modules need lies below both."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
    above = {
        name: {m for _, m in imports(path) if m in names and m != name}
        for name, path in names.items()
        if name != "fairguard"  # the package's face hands names on from any floor, when they are asked for
    }
    try:
        graphlib.TopologicalSorter(above).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"a circle of imports: {' -> '.join(error.args[1])}") from None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_stay_with_their_hosts(path: Path) -> None:
    for line, module in imports(path):
        package = module.split(".")[0]
        if package in HOSTS:
            assert room(path) in HOSTS[package], f"{path.relative_to(ROOT)}:{line}: {package} has no business here"


def test_no_permission_is_left_over() -> None:
    used = {(module.split(".")[0], room(path)) for path in FILES for _, module in imports(path)}
    given = {(package, host) for package, hosts in HOSTS.items() for host in hosts}
    assert not given - used


def lengths(path: Path) -> dict[str, int]:
    """The lines of every function of a file, those of its docstring left out."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0] if ast.get_docstring(node) is not None else None
            told = (doc.end_lineno or 0) - doc.lineno + 1 if doc else 0
            found[f"{path.relative_to(PACKAGE)} {node.name}"] = (node.end_lineno or 0) - node.lineno + 1 - told
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    assert path.read_text().count("\n") <= 400, "over 400 lines: perhaps two rooms"
    long = {name: lines for name, lines in lengths(path).items() if lines > LINES}
    assert not long.keys() - LONGER.keys(), f"over {LINES} lines: {long}"
    named = {name for name in LONGER if name.split()[0] == str(path.relative_to(PACKAGE))}
    assert not named - long.keys(), "no longer long: strike it out of LONGER"


def test_the_plugin_imports_only_pytest_and_the_standard_library() -> None:
    import sys

    path = ROOT / "pytest_plugin" / "pytest_fairguard.py"
    tree = ast.parse(path.read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {(n.module or "") if isinstance(n, ast.ImportFrom) else n.names[0].name for n in top}
    packages = {name.split(".")[0] for name in names}
    assert packages <= {*sys.stdlib_module_names, "pytest"}
