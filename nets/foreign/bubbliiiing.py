"""The two backbones of bubbliiiing/ssd-pytorch that differ from ours, so that its weights load."""

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from nets.backbones.base import Backbone
from nets.backbones.mobilenetv2 import MobileNetV2, spare_strided_depthwise
from nets.backbones.resnet import ResNet
from nets.backbones.vgg import L2Norm

# MobileNetV2 is left after this many blocks: the last output at stride 16.
FIRST = 14


class BubbliiiingResNet50(ResNet):
    """Stage 2 (512 channels, 38 x 38, L2-normalised) and stage 3 (1024, 19 x 19); extras as VGG's.

    Args:
        pretrained: start from torchvision's ImageNet weights.
    """

    grids = (38, 19)
    batch_norm = False

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(depth=50, pretrained=pretrained)
        del self.layer4
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # 150 -> 75, padded on one side
        self.channels, self.extras = (512, 1024), Backbone.extras
        self.l2norm = L2Norm(512)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Backbone.forward`."""
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        stage2 = self.layer2(x)
        return self.l2norm(stage2), self.layer3(stage2)


class BubbliiiingMobileNetV2(MobileNetV2):
    """Block 13 (96 channels, 19 x 19, L2-normalised) and the last layer (1280, 10 x 10).

    Serves the layout `bubbliiiing_mobilenetv2`, 3000 priors; the extras are inverted residuals.

    Args:
        pretrained: start from torchvision's ImageNet weights.
    """

    grids = (19, 10)

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__(pretrained=pretrained)
        self.channels = (96, 1280)
        self.extras = ((256, 512), (128, 256), (128, 256), (64, 64))
        self.l2norm = L2Norm(96)

    def extra(self, channels: int, squeeze: int, out: int, grids: tuple[int, int]) -> nn.Module:
        """See `Backbone.extra`; every one halves its grid, rounding up."""
        assert (grids[0] + 1) // 2 == grids[1], grids
        block = InvertedResidual(channels, out, stride=2, expand_ratio=squeeze / channels)
        spare_strided_depthwise(block)
        return nn.Sequential(block, nn.ReLU(inplace=True))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Backbone.forward`."""
        block13 = self.features[:FIRST](images)
        return self.l2norm(block13), self.features[FIRST:](block13)


FOREIGN_BACKBONES: dict[str, type[Backbone]] = {
    "bubbliiiing_resnet50": BubbliiiingResNet50,
    "bubbliiiing_mobilenetv2": BubbliiiingMobileNetV2,
}
