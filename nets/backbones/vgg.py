"""VGG16 as Liu et al. changed it: fully convolutional, with an atrous fc6."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VGG16_BN_Weights, VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from nets.backbones.attention import attentions, check_attention
from nets.backbones.base import Backbone, imagenet_state


class L2Norm(nn.Module):
    """Scales each position's feature vector to a learned length, one number a channel.

    conv4_3 is shallower than the other sources and its activations are larger; without this the
    heads on it drown the rest. Source: Liu et al. 2016, sec. 3.1 (initial length 20).
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> the same shape."""
        return F.normalize(x, dim=1, eps=1e-10) * self.weight[:, None, None]


class VGG16(Backbone):
    """conv4_3 (512 channels, 38 x 38, L2-normalised) and fc7 (1024, 19 x 19).

    Source: Liu et al., ECCV 2016, sec. 3 "Base network": fc6 and fc7 become convolutions with
    subsampled parameters, pool5 becomes 3 x 3 with stride 1, fc6 takes holes (dilation 6).

    Args:
        batch_norm: the variant with batch norm.
        attention: `se`, `cbam` or `ca` on these maps, see `nets.backbones.attention`.
        pretrained: start from torchvision's ImageNet weights.
    """

    channels = (512, 1024)
    grids = (38, 19)

    def __init__(
        self, *, batch_norm: bool = False, attention: str | None = None, pretrained: bool = False
    ) -> None:
        super().__init__()
        check_attention(attention)
        self.batch_norm = batch_norm
        layers = list(make_layers(cfgs["D"], batch_norm=batch_norm))[:-1]  # up to conv5_3
        pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        layers[pools[2]].ceil_mode = True  # 75 -> 38, not 37
        self.conv4_end = pools[3]
        self.features = nn.ModuleList(layers)
        self.l2norm = L2Norm(512)
        self.pool5 = nn.MaxPool2d(3, stride=1, padding=1)
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        if pretrained:
            weights = VGG16_BN_Weights if batch_norm else VGG16_Weights
            self._load(imagenet_state(weights.IMAGENET1K_V1))
        self.attentions = attentions(attention, self.channels)

    def _load(self, state: dict[str, Tensor]) -> None:
        convolutions = {k: v for k, v in state.items() if k.startswith("features.")}
        # "Subsampled parameters": every 4th of 4096 neurons and every 3rd of 7 x 7 positions.
        fc6 = state["classifier.0.weight"].view(4096, 512, 7, 7)[::4, :, ::3, ::3]
        fc7 = state["classifier.3.weight"].view(4096, 4096, 1, 1)[::4, ::4]
        self.load_state_dict(
            {
                **convolutions,
                "l2norm.weight": self.l2norm.weight,
                "fc6.weight": fc6,
                "fc6.bias": state["classifier.0.bias"][::4],
                "fc7.weight": fc7,
                "fc7.bias": state["classifier.3.bias"][::4],
            }
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Backbone.forward`."""
        x = images
        for layer in self.features[: self.conv4_end]:
            x = layer(x)
        conv4_3 = self.l2norm(x)
        for layer in self.features[self.conv4_end :]:
            x = layer(x)
        fc6 = F.relu(self.fc6(self.pool5(x)), inplace=True)
        return self.attended(conv4_3, F.relu(self.fc7(fc6), inplace=True))
