"""A network's graph in eight bits, by ONNX Runtime's own static quantiser."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tools.export.graph import MEAN
from tools.export.stem import read_by_fours
from utils.data.augment import resize
from utils.data.store import Store

# What is not in this list stays float. Softmax, boxes and suppression come later and stay, too.
IN_EIGHT_BITS = ["Conv", "Add"]
BATCH = 8  # images at once; what they show does not depend on it


class Images:
    """Batches of a split for ONNX Runtime's calibration: `images` of them, evenly spread.

    Args:
        store: the split.
        images: how many are wanted; all where it has fewer.
        rounded: whole numbers, as a network that takes bytes sees them.
    """

    def __init__(self, store: Store, images: int, *, rounded: bool) -> None:
        self.count = min(images, len(store))
        self.store, self.rounded = store, rounded
        self.batches = self.inputs()

    def inputs(self) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        """`[B, 3, 300, 300]` each, by the name of the graph's input."""
        order = torch.linspace(0, len(self.store) - 1, self.count).round().long()
        for batch in self.store.batches(order.split(BATCH)):
            images, _ = resize(batch.images, batch.sizes, batch.targets)
            yield {"floats": (images.round() if self.rounded else images).cpu().numpy()}

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next batch; None at the end. The name is ONNX Runtime's."""
        return next(self.batches, None)


def quantise(network: Any, images: Images) -> Any:
    """The same graph with weights and activations in eight bits; an `onnx.ModelProto`.

    Weights are signed, with a scale for each output channel; activations are unsigned, and their
    range is from the least to the greatest that `images` show. The range of pixels is known: taken
    from images, too, it would cut the bright and dark ones of others. An output of a convolution is
    quantised after its ReLU, or not at all: so logits and offsets leave the heads as floats. Biases
    stay floats in the file, which is smaller so; ONNX Runtime (from 1.21) makes integers of them
    when it loads it.

    Args:
        network: of `tools.export.graph.network_graph`.
        images: what it will see, not augmented.
    """
    import onnx
    from onnxruntime import quantization

    read_by_fours(network)
    # The exporter has folded the batch norms and told the shapes, which is what would be missing.
    onnx.helper.set_model_props(network, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        quantization.quantize_static(
            network,
            path,
            images,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=IN_EIGHT_BITS,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                "QuantizeBias": False,
                "TensorQuantOverrides": pixel_range(network),
            },
        )
        return onnx.load(path)


def pixel_range(network: Any) -> dict[str, list[dict[str, np.float32]]]:
    """The range of pixels 0..255 once their mean is subtracted, by the name of that tensor."""
    from onnx import numpy_helper

    first = next(node for node in network.graph.node if node.op_type == "Conv")
    [mean] = [numpy_helper.to_array(x) for x in network.graph.initializer if x.name == MEAN]
    return {
        first.input[0]: [{"rmin": np.float32(-mean.max()), "rmax": np.float32(255 - mean.min())}]
    }
