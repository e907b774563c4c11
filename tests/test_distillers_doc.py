"""docs/distillers.md names every distiller with its options, and its command lines are ones."""

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest

from nets.distillers import DISTILLERS
from nets.ssd import SSD300
from nets.tasks.building import build_distillers
from utils.cli import parse_arguments
from utils.config import DistillConfig

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "distillers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
ROWS = dict(re.findall(r"^\| `(\w+)` \|(.*)$", PAGE, re.MULTILINE)[: len(DISTILLERS)])


@pytest.fixture(scope="module")
def network() -> SSD300:
    return SSD300("resnet18(width=0.125)", 2)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_lines_are_understood(command: str, network: SSD300) -> None:
    program, script, *arguments = shlex.split(command)
    assert (program, script) == ("python", "train_kd.py")
    config = parse_arguments(DistillConfig, arguments)
    build_distillers(config.distill, network, network)


@pytest.mark.parametrize("name", sorted(DISTILLERS))
def test_every_distiller_has_a_row_with_its_options(name: str) -> None:
    _, looks_at, options, *_ = ROWS[name].replace("\\|", "").split("|")
    options = options.strip().strip("`")
    shown = dict(option.split("=") for option in options.split(", ") if option)
    found = {
        key: parameter.default
        for key, parameter in inspect.signature(DISTILLERS[name]).parameters.items()
        if key not in ("student_channels", "teacher_channels", "weight", "maps")
    }
    assert {key: ast.literal_eval(value) for key, value in shown.items()} == found
    assert ("maps" in looks_at) is DISTILLERS[name].compares_maps
