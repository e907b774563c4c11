"""What the pages under docs/ tell to type is something that the programs understand."""

import re
import shlex
from pathlib import Path

import pytest

from utils.cli import parse_arguments
from utils.config import DistillConfig, MapConfig, PredictConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SCHEMAS = {
    "train_teacher.py": TrainConfig,
    "train_kd.py": DistillConfig,
    "get_map.py": MapConfig,
    "predict.py": PredictConfig,
}


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line) for line in lines if line.startswith("python ")]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_command_lines_are_understood(page: str, command: str) -> None:
    del page
    _, program, *words = shlex.split(command, comments=True)
    if program == "-m":
        place = ROOT / words[0].replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    else:
        parse_arguments(SCHEMAS[program], words)


def test_the_chinese_page_has_the_same_commands_and_figures() -> None:
    english, chinese = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh.md"))
    for pattern in (r"```.*?```", r"[+-]?\d+\.\d+"):
        found = [re.findall(pattern, page, re.DOTALL) for page in (english, chinese)]
        assert found[0] == found[1]


def test_links_lead_somewhere() -> None:
    for page in [
        *PAGES,
        ROOT / "README.md",
        ROOT / "README.zh.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "VOCdevkit/README.md",
        ROOT / "benchmarks/README.md",
        ROOT / "benchmarks/evidence/README.md",
    ]:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: {link}"


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
