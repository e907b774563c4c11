"""Settings of everything that reads a devkit."""

from dataclasses import dataclass

from utils.config.options import at_least, option

# The class list of a run to which neither a flag nor a checkpoint tells another.
CLASSES = "model_data/voc_classes.txt"
ARITHMETICS = ("auto", "off", "bf16", "fp16")


@dataclass(frozen=True)
class DataConfig:
    """Where images and class names come from."""

    data: str = option("VOCdevkit", "VOC devkit: the folder that holds VOC2007, VOC2012, ...")
    classes: str = option(
        "",
        "class list, one name a line, or a checkpoint that knows its classes; without: that of the "
        f"checkpoint given, else {CLASSES}",
    )
    skip_bad: bool = option(False, "leave out images and annotations with errors, and list them")
    cache: str = option("auto", "where decoded images live", ("auto", "device", "ram", "none"))
    workers: int = option(4, "threads that decode images, or copy them for a GPU")
    device: str = option("auto", "auto takes a GPU where there is one", ("auto", "cpu", "cuda"))
    batch_size: int = option(32, "images a forward pass")

    def __post_init__(self) -> None:
        """Refuses values that no run can work with."""
        at_least(self, 1, "workers", "batch_size")
