"""Every setting of every script, once: a frozen dataclass is schema, defaults and help.

utils/cli.py makes command lines of the fields; a run stores its settings in its checkpoints.
"""

from utils.config.data import CLASSES, DataConfig
from utils.config.distillation import KD_SCHEDULES, DistillConfig
from utils.config.networks import MapConfig, PredictConfig
from utils.config.options import LARGEST, above, at_least, flag, option
from utils.config.training import DIFFICULT, RECIPES, TrainConfig

__all__ = [
    "CLASSES",
    "DIFFICULT",
    "KD_SCHEDULES",
    "LARGEST",
    "RECIPES",
    "DataConfig",
    "DistillConfig",
    "MapConfig",
    "PredictConfig",
    "TrainConfig",
    "above",
    "at_least",
    "flag",
    "option",
]
