"""Who may import whom, read from the source: nothing is run."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("train_teacher", "train_kd", "predict", "get_map")
RUN_TIME = {"torch", "torchvision", "numpy", "cv2", "PIL", "tqdm", "matplotlib"}
OURS = {"nets", "utils", "tools", "benchmarks", "tests", *SCRIPTS}
# What each part may import of ours; nothing but a test imports a script.
ALLOWED = {
    "utils": {"utils"},
    "nets": {"nets", "utils"},
    "scripts": {"nets", "utils"},
    "tools": {"nets", "utils", "tools"},
    "benchmarks": {"nets", "utils", "tools", "benchmarks"},
    "tests": OURS,
}


class Import(NamedTuple):
    """`module` as written, and whether it is imported only when a function is called."""

    module: str
    line: int
    inside: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(source: str) -> Iterator[Import]:
    """Every import statement, absolute by the style of this project."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(name.name, child.lineno, inside)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"relative import in line {child.lineno}"
                for name in child.names:
                    yield Import(f"{child.module}.{name.name}", child.lineno, inside)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, inside or function)

    yield from walk(ast.parse(source), inside=False)


def files() -> list[tuple[str, Path]]:
    """(part, file) of every Python file of the project."""
    parts = [
        (part, path)
        for part in ALLOWED
        if part != "scripts"
        for path in sorted((ROOT / part).rglob("*.py"))
    ]
    return parts + [("scripts", ROOT / f"{name}.py") for name in SCRIPTS]


def faults(part: str, source: str) -> list[str]:
    """What breaks a rule, one line each."""
    found = []
    for item in imports(source):
        if item.top in OURS:
            if item.top not in ALLOWED[part]:
                found.append(f"line {item.line}: {part} must not import {item.module}")
        elif item.module.startswith("torch.utils.tensorboard") or item.top == "tensorboard":
            # An extra: missing, it must cost only its own feature.
            if not (item.inside and item.top == "torch"):
                found.append(f"line {item.line}: import {item.module} in a function, from torch")
        elif item.top not in RUN_TIME and item.top not in sys.stdlib_module_names:
            # What runs an exported network is an extra of the scripts, too.
            parts = ("tools", "benchmarks", *(["nets"] * (item.top == "onnxruntime")))
            extra = part in parts and item.inside
            if not extra and part not in ("tests", "benchmarks"):
                found.append(f"line {item.line}: {item.module} is no run-time dependency")
    return found


@pytest.mark.parametrize(
    ("part", "path"), [pytest.param(*f, id=str(f[1].relative_to(ROOT))) for f in files()]
)
def test_imports(part, path):
    assert faults(part, path.read_text(encoding="utf-8")) == []


def test_every_part_is_looked_at():
    assert {part for part, _ in files()} == set(ALLOWED)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("utils", "import nets.ssd"),
        ("utils", "def f():\n    from nets import ssd"),
        ("nets", "from train_kd import main"),
        ("nets", "import tools.demo"),
        ("scripts", "import get_map"),
        ("utils", "import scipy"),
        ("tools", "import optuna"),
        ("utils", "from torch.utils.tensorboard import SummaryWriter"),
        ("utils", "from torch.utils import tensorboard"),
        ("utils", "def f():\n    import tensorboard"),
        ("nets", "import onnxruntime"),
        ("nets", "def f():\n    import optuna"),
    ],
)
def test_faults_are_found(part, source):
    assert len(faults(part, source)) == 1


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("nets", "from utils import boxes\nimport torch.nn as nn\nimport math"),
        ("utils", "def f():\n    from torch.utils.tensorboard import SummaryWriter"),
        ("tools", "def f():\n    import optuna"),
        ("nets", "def f():\n    import onnxruntime"),
        ("tests", "import pytest\nimport pycocotools"),
    ],
)
def test_the_rest_is_fine(part, source):
    assert faults(part, source) == []
