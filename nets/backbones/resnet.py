"""ResNet-18, -34 and -50 of any width, without their classifier."""

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights
from torchvision.models.resnet import BasicBlock, Bottleneck

from nets.backbones.attention import attentions, check_attention
from nets.backbones.base import Backbone, check_width, divisible_by_8, imagenet_state

# He et al., table 1: block and number of blocks of each stage.
VARIANTS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...], ResNet18_Weights]] = {
    18: (BasicBlock, (2, 2, 2, 2), ResNet18_Weights.IMAGENET1K_V1),
    34: (BasicBlock, (3, 4, 6, 3), ResNet34_Weights.IMAGENET1K_V1),
    50: (Bottleneck, (3, 4, 6, 3), ResNet50_Weights.IMAGENET1K_V2),
}


class ResNet(Backbone):
    """The outputs of stages 2, 3 and 4: 38 x 38, 19 x 19 and 10 x 10.

    Args:
        depth: 18, 34 or 50.
        width: multiplier of all channel counts, > 0; only 1.0 has ImageNet weights. A narrow ResNet
            is the fastest choice on a CPU, where MobileNet's depthwise layers wait for memory.
        attention: `se`, `cbam` or `ca` on these maps, see `nets.backbones.attention`.
        pretrained: start from torchvision's ImageNet weights.

    Source: He et al., CVPR 2016, table 1; blocks and weights are torchvision's.
    """

    grids: tuple[int, ...] = (38, 19, 10)

    def __init__(
        self,
        *,
        depth: int,
        width: float = 1.0,
        attention: str | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        check_width(f"resnet{depth}", width, pretrained)
        check_attention(attention)
        block, blocks, weights = VARIANTS[depth]
        stem, *planes = (divisible_by_8(c * width) for c in (64, 64, 128, 256, 512))
        # torchvision's module names, so that its state dicts load.
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = [stem, *(c * block.expansion for c in planes)]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            stage(block, inputs[i], planes[i], blocks[i], stride=1 if i == 0 else 2)
            for i in range(4)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.channels = tuple(inputs[2:])
        self.extras = tuple(
            (divisible_by_8(squeeze * width), divisible_by_8(out * width))
            for squeeze, out in ((128, 256), (128, 256), (128, 256))
        )
        if pretrained:
            state = imagenet_state(weights)
            self.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
        self.attentions = attentions(attention, self.channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Backbone.forward`."""
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        stage2: Tensor = self.layer2(x)
        stage3: Tensor = self.layer3(stage2)
        return self.attended(stage2, stage3, self.layer4(stage3))


def stage(
    block: type[BasicBlock | Bottleneck], inputs: int, planes: int, blocks: int, stride: int
) -> nn.Sequential:
    """`blocks` residual blocks, the first of which changes resolution and width where needed."""
    outputs = planes * block.expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    first = block(inputs, planes, stride, downsample)
    return nn.Sequential(first, *(block(outputs, planes) for _ in range(blocks - 1)))
