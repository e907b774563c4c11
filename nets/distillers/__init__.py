"""Distillers by name. To add one: one file, one line here, and the tests run it."""

from nets.distillers.attention import AttentionTransfer
from nets.distillers.base import Distiller
from nets.distillers.crosskd import CrossHead
from nets.distillers.cwd import ChannelWise
from nets.distillers.dkd import Decoupled
from nets.distillers.fgd import FocalGlobal
from nets.distillers.fsp import FlowOfSolution
from nets.distillers.hint import Hint
from nets.distillers.imitation import FineGrained
from nets.distillers.mgd import MaskedGenerative
from nets.distillers.objectness import ObjectnessScaled
from nets.distillers.pkd import Pearson

__all__ = ["DISTILLERS", "Distiller"]

DISTILLERS: dict[str, type[Distiller]] = {
    "attention": AttentionTransfer,
    "crosskd": CrossHead,
    "cwd": ChannelWise,
    "dkd": Decoupled,
    "fgd": FocalGlobal,
    "fsp": FlowOfSolution,
    "hint": Hint,
    "imitation": FineGrained,
    "mgd": MaskedGenerative,
    "objectness": ObjectnessScaled,
    "pkd": Pearson,
}
