"""The rules of docs/explanation/architecture.md, read from the syntax of every module.

Imports inside functions and under TYPE_CHECKING count: what is looked for is who knows of whom.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path.relative_to(REPOSITORY)
    for package in ("sfisep_core", "sfisep_cli")
    for path in (REPOSITORY / package).rglob("*.py")
)

# What each part of the core may import of the others, besides itself. Down means all the way down.
_BASE = {
    "sfisep_core.errors",
    "sfisep_core.results",
    "sfisep_core.config_values",
    "sfisep_core.wording",
    "sfisep_core.foreign",
    "sfisep_core.foundation",
}
_SIGNAL = _BASE | {"sfisep_core.sfi", "sfisep_core.audio"}
_MODELS = _BASE | {
    "sfisep_core.sfi",
    "sfisep_core.audio.stft",
    "sfisep_core.audio.resample",
    "sfisep_core.audio.torchaudio_check",
}
_OPERATION = _SIGNAL | {"sfisep_core.models", "sfisep_core.data", "sfisep_core.pretrained"}
ALLOWED = {
    # What programs need first, by its name. Nothing of it is loaded with the package: see
    # tests/test_public_names.py.
    "sfisep_core": _BASE
    | {"sfisep_core.separation", "sfisep_core.models", "sfisep_core.pretrained"},
    "sfisep_core.errors": {"sfisep_core.wording"},
    "sfisep_core.results": set(),
    "sfisep_core.wording": set(),
    "sfisep_core.config_values": {"sfisep_core.errors"},
    "sfisep_core.foreign": {"sfisep_core.errors"},
    "sfisep_core.foundation": {"sfisep_core.errors", "sfisep_core.wording"},
    "sfisep_core.devices": _BASE,
    "sfisep_core.sfi": _BASE,
    "sfisep_core.audio": _BASE,
    "sfisep_core.models": _MODELS,
    "sfisep_core.data": _BASE | {"sfisep_core.audio"},
    "sfisep_core.pretrained": _MODELS | {"sfisep_core.models"},
    "sfisep_core.separation": _OPERATION | {"sfisep_core.devices"},
    "sfisep_core.training": _OPERATION | {"sfisep_core.devices", "sfisep_core.separation"},
    "sfisep_core.evaluation": _OPERATION | {"sfisep_core.devices", "sfisep_core.separation"},
    # The command line calls whole operations; what they are made of is not its business.
    "sfisep_cli": _BASE
    | {
        "sfisep_core.separation",
        "sfisep_core.evaluation",
        "sfisep_core.training",
        "sfisep_core.data",
        "sfisep_core.pretrained",
    },
}
# Locks are those of filelock, and clusters those of Ray.
STDLIB_ONLY = ("sfisep_core", *sorted(_BASE - {"sfisep_core.foundation"}))


def part_of(module: str) -> str:
    """Return the part that a module belongs to: a key of ALLOWED."""
    names = module.split(".")
    return names[0] if names[0] == "sfisep_cli" else ".".join(names[:2])


def name_of(path: Path) -> str:
    """Return the dotted name of a module, of a package for its __init__.py."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported_names(tree: ast.AST, path: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports, relative imports resolved."""
    package = path.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            prefix = ".".join(part for part in (base, node.module) if part)
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def violations(source: str, path: Path) -> list[str]:
    """Return what a module does against the rules."""
    tree = ast.parse(source)
    part = part_of(name_of(path))
    found = []
    for name in imported_names(tree, path):
        top = name.split(".")[0]
        if top in ("sfisep_core", "sfisep_cli"):
            allowed = ALLOWED[part] | ({part} if part != "sfisep_core" else set())
            if not any(f"{name}.".startswith(f"{target}.") for target in allowed):
                found.append(f"{part} imports {name}")
        elif top in ("typer", "rich", "click") and part != "sfisep_cli":
            found.append(f"{part} imports {name}: the terminal is the command line's business")
        elif part in STDLIB_ONLY and top not in sys.stdlib_module_names:
            found.append(f"{part} imports {name}, which is not in the standard library")
    if part != "sfisep_cli":
        found += [
            f"print in line {node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == "print"
        ]
    return found


def test_both_packages_are_found() -> None:
    assert Path("sfisep_core/errors.py") in MODULES
    assert Path("sfisep_cli/commands/separate.py") in MODULES


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_module_keeps_the_rules(path: Path) -> None:
    assert part_of(name_of(path)) in ALLOWED, "a new part needs its place among the layers"
    assert violations((REPOSITORY / path).read_text(encoding="utf-8"), path) == []


def imported_modules(source: str, path: Path) -> set[str]:
    """Return the modules of ours that a module imports."""
    known = {name_of(module) for module in MODULES}
    found = set()
    for name in imported_names(ast.parse(source), path):
        parts = name.split(".")
        prefixes = (".".join(parts[:count]) for count in range(len(parts), 1, -1))
        found |= {next((prefix for prefix in prefixes if prefix in known), "")}
    return found - {""}


@pytest.mark.slow
def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        name_of(path): imported_modules((REPOSITORY / path).read_text(encoding="utf-8"), path)
        for path in MODULES
    }
    assert sum(map(len, graph.values())) > len(MODULES)
    assert "sfisep_core.models.super_resolved" in graph["sfisep_core.models.registry"]
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_circle_is_noticed() -> None:
    one, other = Path("sfisep_core/models/registry.py"), Path("sfisep_core/models/contract.py")
    graph = {
        name_of(one): imported_modules("from sfisep_core.models.contract import x", one),
        name_of(other): imported_modules("def f():\n    from . import registry", other),
    }
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("sfisep_core/sfi/layers.py", "from sfisep_core.models import registry"),
        ("sfisep_core/audio/files.py", "from sfisep_core import sfi"),
        ("sfisep_core/models/unet.py", "from sfisep_core.audio import files"),
        ("sfisep_core/models/unet.py", "def f():\n    import sfisep_core.audio.files"),
        ("sfisep_core/models/blocks/tcn.py", "from ...training import loop"),
        ("sfisep_core/models/__init__.py", "from ..separation.separator import Separator"),
        ("sfisep_core/data/prepare.py", "if TYPE_CHECKING:\n    import sfisep_core.models"),
        ("sfisep_core/separation/separator.py", "import sfisep_core.evaluation.metrics"),
        ("sfisep_core/training/loop.py", "from sfisep_core.evaluation import metrics"),
        ("sfisep_core/training/loop.py", "import sfisep_cli"),
        ("sfisep_core/training/loop.py", "from rich.progress import Progress"),
        ("sfisep_core/training/loop.py", "import typer"),
        ("sfisep_core/training/loop.py", "print(1)"),
        ("sfisep_core/training/loop.py", "log = print"),
        ("sfisep_core/errors.py", "import numpy as np"),
        ("sfisep_core/__init__.py", "from sfisep_core.training import loop"),
        ("sfisep_core/__init__.py", "import torch"),
        ("sfisep_cli/commands/separate.py", "from sfisep_core.models import registry"),
        ("sfisep_cli/app.py", "import sfisep_core"),
    ],
)
def test_offence_is_noticed(path: str, source: str) -> None:
    assert len(violations(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("sfisep_core/sfi/layers.py", "import torch\nfrom sfisep_core.errors import ConfigError"),
        ("sfisep_core/sfi/layers.py", "from . import analog_filters\nfrom .time_design import f"),
        ("sfisep_core/models/unet.py", "from sfisep_core.audio.stft import stft"),
        ("sfisep_core/models/unet.py", "from sfisep_core.audio import stft"),
        ("sfisep_core/models/blocks/tcn.py", "from ...errors import ConfigError"),
        ("sfisep_core/separation/separator.py", "from sfisep_core.pretrained import registry"),
        ("sfisep_core/evaluation/evaluate.py", "from sfisep_core.separation import separator"),
        ("sfisep_core/__init__.py", "from sfisep_core.separation.separator import Separator"),
        ("sfisep_core/training/loop.py", "'print'"),
        ("sfisep_cli/app.py", "import typer\nfrom sfisep_core.training.loop import train"),
        ("sfisep_cli/app.py", "from .commands import train\nprint('')"),
    ],
)
def test_what_is_allowed_is_not_noticed(path: str, source: str) -> None:
    assert violations(source, Path(path)) == []
