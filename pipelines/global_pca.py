"""Principal components of all columns together: how many, seen by which family, chosen inside training parts.

As `group_pca`, but without perceptual groups, so that columns of no group take part as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines import group_pca, option
from pipelines.group_pca import AUTO, words

__all__ = ["Config", "execute", "words"]
REDUCTION = "global-pca"


@dataclass(frozen=True)
class Config(group_pca.Config):
    """Options of `global_pca`."""

    components: tuple[str, ...] = option(
        AUTO, "numbers of components to try, such as 4,8,all (auto: 8,16,32,64,128,all, as far as they exist)"
    )


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    return group_pca.execute_route("global_pca", REDUCTION, config, job, run_id, span)
