"""From audio to tables of numbers: low-level descriptors at 2 Hz, their statistics, and what each column means."""

from mer_core.features.groups import describe_columns
from mer_core.features.table import FeatureTable, build_features, features_of_files

__all__ = ["FeatureTable", "build_features", "describe_columns", "features_of_files"]
