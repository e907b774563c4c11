"""A network and its file: our checkpoint, another project's, a pruned or an exported network."""

from nets.saved.networks import (
    check_class_names,
    describe_network,
    faults_of,
    limits_for,
    load_detector,
    load_network,
    load_start,
    names_in,
    refuse_exported,
)

__all__ = [
    "check_class_names",
    "describe_network",
    "faults_of",
    "limits_for",
    "load_detector",
    "load_network",
    "load_start",
    "names_in",
    "refuse_exported",
]
