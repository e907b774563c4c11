"""Backbones by name. To add one: one file, one line here, one row in the contract test."""

from collections.abc import Callable
from functools import partial

from nets.backbones.base import Backbone
from nets.backbones.mobilenetv2 import MobileNetV2
from nets.backbones.resnet import ResNet
from nets.backbones.vgg import VGG16

__all__ = ["BACKBONES", "Backbone"]

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "vgg16": partial(VGG16, batch_norm=False),
    "vgg16_bn": partial(VGG16, batch_norm=True),
    "resnet18": partial(ResNet, depth=18),
    "resnet34": partial(ResNet, depth=34),
    "resnet50": partial(ResNet, depth=50),
    "mobilenetv2": MobileNetV2,
}
