"""Models on disk, in a format whose loading runs no code of the file's.

skops writes a zip archive of arrays and a schema of types. Only the types that our families are made of are accepted,
by name, besides numpy's, scipy's and the standard library's; anything else is refused before it is built.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from types import ModuleType

import sklearn.utils
from sklearn.pipeline import Pipeline

from mer_core.errors import UserError

# Beyond skops's own list (numpy's and scipy's types).
TRUSTED = (
    "mer_core.models.kernel.GaussianRidge",
    "mer_core.models.kernel.MeanRegressor",
    "mer_core.models.midlevel.BlockWeights",
    "mer_core.models.midlevel.Bottleneck",
    "mer_core.models.networks.heads.HeadRegressor",
    "mer_core.models.preparation.CommonScale",
    "mer_core.models.reductions.Decorrelate",
    "mer_core.models.reductions.GlobalPca",
    "mer_core.models.reductions.GroupPca",
    "numpy.clip",
    "numpy.dtype",
    "sklearn.compose._target.TransformedTargetRegressor",
    "sklearn.ensemble._forest.ExtraTreesRegressor",
    "sklearn.ensemble._forest.RandomForestRegressor",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._voting.VotingRegressor",
    "sklearn.impute._base.SimpleImputer",
    "sklearn.linear_model._coordinate_descent.MultiTaskElasticNetCV",
    "sklearn.linear_model._ridge.RidgeCV",
    "sklearn.model_selection._split.KFold",
    "sklearn.multioutput.MultiOutputRegressor",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.MinMaxScaler",
    "sklearn.preprocessing._data.QuantileTransformer",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    "sklearn.preprocessing._label.LabelEncoder",
    "sklearn.svm._classes.SVR",
    "sklearn.tree._classes.DecisionTreeRegressor",
    "sklearn.tree._classes.ExtraTreeRegressor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)


def _skops() -> ModuleType:
    """The module `skops.io`, without scikit-learn's estimators in its list of types.

    To list them it imports every module of scikit-learn, and PyTorch with one of them: seconds, for types that no model
    of ours has.
    """
    everything = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = list
    try:
        import skops.io
    finally:
        sklearn.utils.all_estimators = everything
    return skops.io


def save_model(path: str | Path, pipeline: Pipeline) -> None:
    """Write a fitted pipeline to a temporary name and rename it, so that a file is complete or absent."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _skops().dump(pipeline, temporary, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(path: str | Path) -> Pipeline:
    """Read a pipeline.

    Raises
    ------
    UserError : no such file, a damaged file, or one that holds types which no model of ours has
    """
    skops, path = _skops(), Path(path)
    if not path.is_file():
        raise UserError(f"there is no model at {path}: train the run again")
    try:
        unknown = [name for name in skops.get_untrusted_types(file=path) if name not in TRUSTED]
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError(f"{path} is no model file or is damaged ({error}): train the run again") from error
    if unknown:
        raise UserError(f"{path} holds {unknown[0]}, which no model of this program has: it was not loaded")
    model = skops.load(path, trusted=list(TRUSTED))
    if not isinstance(model, Pipeline):
        raise UserError(f"{path} holds a {type(model).__name__}, not a model of this program: train the run again")
    return model
