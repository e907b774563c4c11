"""MobileNetV2 of any width."""

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2
from torchvision.ops.misc import Conv2dNormActivation

from nets.backbones.attention import attentions, check_attention
from nets.backbones.base import Backbone, check_width, divisible_by_8, imagenet_state

# The blocks whose expansion is a source, as in the authors' SSDLite: the last activations that are
# wide, non-linear and still at stride 8 (block 7) and 16 (block 14).
STRIDE_8, STRIDE_16 = 7, 14


class StridedDepthwise(nn.Conv2d):
    """A depthwise convolution with a stride, which a CPU trains in its weights' float32.

    For its gradient in bf16 oneDNN (3.13) takes a kernel for dense convolutions: 14 to 50 times
    the time of float32; for the four of a MobileNetV2, nearly a third of the time of a step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv2d`, of the type of `x`."""
        if not (x.is_cpu and x.requires_grad):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def spare_strided_depthwise(network: nn.Module) -> None:
    """Makes the depthwise convolutions with a stride `StridedDepthwise`; their weights stay."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.stride != (1, 1):
            layer.__class__ = StridedDepthwise


class MobileNetV2(Backbone):
    """The expansions of blocks 7 (38 x 38) and 14 (19 x 19), and the last layer (10 x 10).

    Sandler et al. start at stride 16; the stride-8 source is added here so that student and teacher
    share one grid of priors.

    Args:
        width: multiplier of all channel counts, > 0; only 1.0 has ImageNet weights.
        attention: `se`, `cbam` or `ca` on these maps, see `nets.backbones.attention`.
        pretrained: start from torchvision's ImageNet weights.

    Source: Sandler et al., CVPR 2018, sec. 6.2.
    """

    grids: tuple[int, ...] = (38, 19, 10)

    def __init__(
        self, *, width: float = 1.0, attention: str | None = None, pretrained: bool = False
    ) -> None:
        super().__init__()
        check_width("mobilenetv2", width, pretrained)
        check_attention(attention)
        trunk = mobilenet_v2(weights=None, width_mult=width)
        if pretrained:
            trunk.load_state_dict(imagenet_state(MobileNet_V2_Weights.IMAGENET1K_V2))
        spare_strided_depthwise(trunk)
        self.features = trunk.features
        if width < 1:
            # torchvision keeps 1280 channels here for the classifier's sake; a detector needs none.
            last = self.features[-1][0]
            self.features[-1] = Conv2dNormActivation(
                last.in_channels,
                divisible_by_8(1280 * width),
                kernel_size=1,
                activation_layer=nn.ReLU6,
            )
        self.channels = (
            self.features[STRIDE_8].conv[0][0].out_channels,
            self.features[STRIDE_16].conv[0][0].out_channels,
            self.features[-1][0].out_channels,
        )
        self.extras = tuple(
            (divisible_by_8(squeeze * width), divisible_by_8(out * width))
            for squeeze, out in ((256, 512), (128, 256), (128, 256))
        )
        self.attentions = attentions(attention, self.channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Backbone.forward`."""
        x, maps = images, []
        for i, block in enumerate(self.features):
            if i in (STRIDE_8, STRIDE_16):
                # None of the two has a skip connection, so the block is its layers in turn.
                expand, *rest = block.conv
                x = expand(x)
                maps.append(x)
                for layer in rest:
                    x = layer(x)
            else:
                x = block(x)
        return self.attended(*maps, x)
