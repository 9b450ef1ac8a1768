"""The house's floors: imports point down, and heavy packages stay where they may be."""

import ast
import importlib.util
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "ddjax.kernels": 0,
    "ddjax.storage": 0,
    "ddjax.solvers": 1,
    "ddjax.models": 1,
    "ddjax.data": 1,
    "ddjax.synthetic": 1,
    "ddjax.methods": 2,
    "ddjax.evaluation": 2,
    "ddjax.runtime": 3,
    "ddjax.command": 4,
    "experiments": 5,
    "configs": 5,
}
# Neighbours on one floor that may be imported.
SIDEWAYS = {("ddjax.synthetic", "ddjax.data"), ("experiments", "configs")}
CONFIG_PACKAGES = {"ml_collections", "absl", "configs", "experiments"}
KERNELS_AT_THE_TOP = {"jax", "jaxlib", "jaxtyping", "numpy"}
KERNELS_WHERE_USED = KERNELS_AT_THE_TOP | {"neural_tangents"}
OPTIONAL = {"neural_tangents", "tensorflow", "tensorflow_datasets", "grain", "torch"}
TOP_LEVEL = {
    "setup.cfg",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "CITATION.cff",
    "mkdocs.yml",
    "ddjax",
    "experiments",
    "configs",
    "colabs",
    "docs",
    "tests",
}
IGNORED = {
    "runs",
    "local_data",
    "build",
    "dist",
    "site",
    "__pycache__",
    "ddjax.egg-info",
}


class Import(NamedTuple):
    """One imported module name, the line, and whether it runs at import time."""

    module: str
    line: int
    at_the_top: bool


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(source: str, module: str, is_package: bool) -> list[Import]:
    found = []

    def visit(node, at_the_top):
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, ast.Import):
                for alias in child.names:
                    found.append(Import(alias.name, child.lineno, at_the_top))
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    package = module if is_package else module.rpartition(".")[0]
                    base = importlib.util.resolve_name(
                        "." * child.level + base, package
                    )
                for alias in child.names:
                    name = f"{base}.{alias.name}"
                    found.append(Import(name, child.lineno, at_the_top))
            visit(child, at_the_top and not inside)

    visit(ast.parse(source), True)
    return found


def _package(module: str) -> str | None:
    """The floor's package that `module` belongs to, None outside the house."""
    for package in FLOORS:
        if module == package or module.startswith(package + "."):
            return package
    return None


def _upward(module: str, imported: str) -> bool:
    here, there = _package(module), _package(imported)
    if here is None or there is None or here == there or (here, there) in SIDEWAYS:
        return False
    return FLOORS[there] >= FLOORS[here]


def _files(*packages: str) -> list[Path]:
    return [path for p in packages for path in sorted((ROOT / p).rglob("*.py"))]


def _all_imports(*packages: str):
    for path in _files(*packages):
        module = _module_name(path)
        source = path.read_text(encoding="utf-8")
        for imported in _imports(source, module, path.name == "__init__.py"):
            yield f"{path.relative_to(ROOT)}:{imported.line}", module, imported


def test_the_reader_sees_every_kind_of_import():
    source = (
        "import a.b\n"
        "from c import d\n"
        "from . import e\n"
        "from ..runtime import f\n"
        "def g():\n    import h\n"
        "class I:\n    import j\n"
        "if True:\n    import k\n"
    )
    found = _imports(source, "ddjax.kernels.ridge", is_package=False)
    assert [(i.module, i.at_the_top) for i in found] == [
        ("a.b", True),
        ("c.d", True),
        ("ddjax.kernels.e", True),
        ("ddjax.runtime.f", True),
        ("h", False),
        ("j", True),
        ("k", True),
    ]


@pytest.mark.parametrize(
    ("module", "imported", "upward"),
    [
        ("ddjax.kernels.ridge", "ddjax.kernels.losses", False),
        ("ddjax.kernels.ridge", "ddjax.data.problem", True),
        ("ddjax.methods.kip", "ddjax.evaluation.base", True),
        ("ddjax.methods.dgkip", "ddjax.solvers.erm", False),
        ("ddjax.data.problem", "ddjax.solvers.erm", True),
        ("ddjax.synthetic.files", "ddjax.data.preprocess", False),
        ("ddjax.data.problem", "ddjax.synthetic.files", True),
        ("ddjax.command.distil", "experiments.launch", True),
        ("experiments.launch", "ddjax.command.execution", False),
    ],
)
def test_what_counts_as_upward(module, imported, upward):
    assert _upward(module, imported) is upward


def test_imports_point_down():
    bad = [
        f"{where}: {module} imports {imported.module}"
        for where, module, imported in _all_imports("ddjax", "experiments", "configs")
        if _upward(module, imported.module)
    ]
    assert not bad, "\n".join(bad)


def test_the_library_reads_no_configs():
    bad = [
        f"{where}: {imported.module}"
        for where, _, imported in _all_imports("ddjax")
        if imported.module.split(".")[0] in CONFIG_PACKAGES
    ]
    assert not bad, "\n".join(bad)


def test_kernels_import_arrays_only():
    import sys

    bad = []
    for where, _, imported in _all_imports("ddjax/kernels"):
        package = imported.module.split(".")[0]
        allowed = KERNELS_AT_THE_TOP if imported.at_the_top else KERNELS_WHERE_USED
        if package in sys.stdlib_module_names or package in allowed:
            continue
        if imported.module.startswith("ddjax.kernels"):
            continue
        bad.append(f"{where}: {imported.module}")
    assert not bad, "\n".join(bad)


def test_optional_packages_are_imported_where_they_are_used():
    bad = [
        f"{where}: {imported.module}"
        for where, _, imported in _all_imports("ddjax", "experiments")
        if imported.at_the_top and imported.module.split(".")[0] in OPTIONAL
    ]
    assert not bad, "\n".join(bad)


def test_every_module_says_what_is_public():
    bad = []
    for path in _files("ddjax", "experiments"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.name == "__init__.py" and not tree.body:
            continue
        names = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        if "__all__" not in names:
            bad.append(str(path.relative_to(ROOT)))
    assert not bad, "\n".join(bad)


def test_the_package_root_imports_nothing():
    source = (ROOT / "ddjax" / "__init__.py").read_text(encoding="utf-8")
    assert _imports(source, "ddjax", is_package=True) == []


def test_nothing_else_lies_at_the_top():
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - IGNORED <= TOP_LEVEL, sorted(found - IGNORED - TOP_LEVEL)
