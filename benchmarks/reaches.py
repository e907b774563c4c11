"""What `make bench` has to reach on one thread: how many times faster (or smaller), at least.

A ratio is always the other's time over ours. Below 1 stands what costs more than the other does:
1 / 1.3 is "at most 1.3 times as long".
"""

REACHES = {
    "step of resnet18 alone": 2.0,
    "step of resnet18 distilled": 2.2,
    "step of mobilenetv2 alone": 1.5,
    "step of mobilenetv2 distilled": 1.5,
    "reading": 1 / 1.3,
    "augmentation": 6.0,
    "loss": 3.0,
    "distillation loss": 2.5,
    "post-processing": 2.0,
    "AP by VOC": 4.0,
    "AP by COCO": 1.0,
    "AP beside pycocotools": 1.0,
    "distillation beside its parts": 1 / 1.05,
    "teacher resnet18": 1 / 0.75,
    "teacher resnet34": 1 / 0.75,
    "memo, resnet18": 1 / 1.10,
    "memo, mobilenetv2": 1 / 1.05,
    "memo, filled by resnet18": 1 / 1.35,
    "evaluation": 1 / 1.15,
    "peak memory": 0.99,  # both hold the same numbers, to some pages
}
