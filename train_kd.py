"""Stage 2: trains a student under a teacher; trains the teacher first when none is given.

python train_kd.py --teacher logs/teacher/best.pth --backbone mobilenetv2
"""

from collections.abc import Sequence

from nets.stages import train_student
from utils.cli import parse_arguments, run
from utils.config import DistillConfig


def main(arguments: Sequence[str] | None) -> None:
    """DistillConfig -> DistillTask -> fit."""
    best = train_student(parse_arguments(DistillConfig, arguments))
    print(f"written: {best}")


if __name__ == "__main__":
    run(main)
