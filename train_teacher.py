"""Stage 1: trains an SSD300 on objects alone (a teacher, or a student as the baseline).

python train_teacher.py --data VOCdevkit --train VOC2007/trainval --name teacher
"""

from collections.abc import Sequence

from nets.stages import train_detector
from utils.cli import parse_arguments, run
from utils.config import TrainConfig


def main(arguments: Sequence[str] | None) -> None:
    """TrainConfig -> DetectionTask -> fit."""
    best = train_detector(parse_arguments(TrainConfig, arguments))
    print(f"written: {best}")


if __name__ == "__main__":
    run(main)
