"""The house's floors: imports point down, and heavy packages stay where they may be."""

import ast
import functools
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "ddjax.checks": 0,
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


def _imports(source: str) -> list[Import]:
    found = []

    def visit(node, at_the_top):
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, ast.Import | ast.ImportFrom):
                # The house imports by whole names; `.` would need its package.
                assert not getattr(child, "level", 0), ast.unparse(child)
                base = f"{child.module}." if isinstance(child, ast.ImportFrom) else ""
                for alias in child.names:
                    found.append(Import(base + alias.name, child.lineno, at_the_top))
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


@functools.cache
def _imports_of(path: Path) -> list[Import]:
    return _imports(path.read_text(encoding="utf-8"))


def _all_imports(*packages: str):
    for path in _files(*packages):
        for imported in _imports_of(path):
            where = f"{path.relative_to(ROOT)}:{imported.line}"
            yield where, _module_name(path), imported


def test_the_reader_sees_every_kind_of_import():
    source = (
        "import a.b\n"
        "from c import d\n"
        "def g():\n    import h\n"
        "class I:\n    import j\n"
        "if True:\n    import k\n"
    )
    found = [(each.module, each.at_the_top) for each in _imports(source)]
    top = [(name, True) for name in ("a.b", "c.d", "j", "k")]
    assert found == [*top[:2], ("h", False), *top[2:]]


@pytest.mark.parametrize(
    ("module", "imported", "upward"),
    [
        ("ddjax.kernels.ridge", "ddjax.kernels.losses", False),
        ("ddjax.methods.kip", "ddjax.evaluation.base", True),
        ("ddjax.methods.dgkip", "ddjax.solvers.erm", False),
        ("ddjax.synthetic.files", "ddjax.data.preprocess", False),
        ("ddjax.data.problem", "ddjax.synthetic.files", True),
        ("ddjax.command.distil", "experiments.launch", True),
    ],
)
def test_what_counts_as_upward(module, imported, upward):
    assert _upward(module, imported) is upward


def _points_down(module: str, imported: Import) -> bool:
    return not _upward(module, imported.module)


def _reads_no_configs(module: str, imported: Import) -> bool:
    return imported.module.split(".")[0] not in CONFIG_PACKAGES


def _of_arrays_only(module: str, imported: Import) -> bool:
    allowed = KERNELS_AT_THE_TOP if imported.at_the_top else KERNELS_WHERE_USED
    own = imported.module.startswith("ddjax.kernels")
    return own or imported.module.split(".")[0] in sys.stdlib_module_names | allowed


def _optional_where_used(module: str, imported: Import) -> bool:
    return not imported.at_the_top or imported.module.split(".")[0] not in OPTIONAL


@pytest.mark.parametrize(
    ("packages", "allowed"),
    [
        (("ddjax", "experiments", "configs"), _points_down),
        (("ddjax",), _reads_no_configs),
        (("ddjax/kernels",), _of_arrays_only),
        (("ddjax", "experiments"), _optional_where_used),
    ],
)
def test_imports(packages, allowed):
    bad = [
        f"{where} imports {imported.module}"
        for where, module, imported in _all_imports(*packages)
        if not allowed(module, imported)
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
    assert _imports(source) == []


def test_nothing_else_lies_at_the_top():
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - IGNORED <= TOP_LEVEL, sorted(found - IGNORED - TOP_LEVEL)
