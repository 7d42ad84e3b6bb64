"""Models on disk, in a format whose loading runs no code of the file's.

skops writes a zip archive of arrays and a schema of types. Only types of scikit-learn, numpy, scipy and the standard
library are accepted, by name from fixed lists; anything else is refused before it is built.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from sklearn.pipeline import Pipeline

from mer_core.errors import UserError

# Beyond skops's own list (scikit-learn's estimators, numpy's and scipy's types).
TRUSTED = (
    "mer_core.models.kernel.GaussianRidge",
    "mer_core.models.kernel.MeanRegressor",
    "mer_core.models.networks.heads.HeadRegressor",
    "mer_core.models.reductions.Decorrelate",
    "mer_core.models.reductions.GlobalPca",
    "mer_core.models.reductions.GroupPca",
    "numpy.clip",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.model_selection._split.KFold",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)


def save_model(path: str | Path, pipeline: Pipeline) -> None:
    """Write a fitted pipeline to a temporary name and rename it, so that a file is complete or absent."""
    import skops.io

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        skops.io.dump(pipeline, temporary, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path: str | Path) -> Pipeline:
    """Read a pipeline.

    Raises
    ------
    UserError : no such file, a damaged file, or one that holds types which no model of ours has
    """
    import skops.io

    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no model at {path}: train the run again")
    try:
        unknown = [name for name in skops.io.get_untrusted_types(file=path) if name not in TRUSTED]
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError(f"{path} is no model file or is damaged ({error}): train the run again") from error
    if unknown:
        raise UserError(f"{path} holds {unknown[0]}, which no model of this program has: it was not loaded")
    model = skops.io.load(path, trusted=list(TRUSTED))
    if not isinstance(model, Pipeline):
        raise UserError(f"{path} holds a {type(model).__name__}, not a model of this program: train the run again")
    return model
