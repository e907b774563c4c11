"""What is trained: an SSD300 on objects alone, or as the student of a teacher."""

from nets.tasks.detection import DetectionTask
from nets.tasks.distillation import DistillTask

__all__ = ["DetectionTask", "DistillTask"]
