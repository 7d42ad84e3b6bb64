"""Which columns a table has, by perceptual group, what a reduction leaves of them, and the counts of the source.

The source is G. Kritsovas, https://github.com/Grkritsovas/postgrad-final-project. Its counts were made on the 1802
songs of DEAM with the descriptor tables published with them; its components on the training part of a split of its own.
Counts of columns follow from the rules and must be equal; counts after a reduction depend on the music.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mer_core.errors import UserError
from mer_core.features.groups import UNMAPPED, describe_columns
from mer_core.features.llds import lld_columns
from mer_core.features.statistics import STATISTICS_8, STATISTICS_15, column_names
from mer_core.models.preparation import reducing_steps
from mer_core.models.reductions import EVERYTHING, Decorrelate, GlobalPca, GroupPca
from mer_core.models.representations import parts_of

STATISTICS = {"stats8": STATISTICS_8, "stats15": STATISTICS_15}
GROUPS = (
    "melodiousness",
    "articulation",
    "rhythmic_stability",
    "rhythmic_complexity",
    "dissonance",
    "tonal_stability",
    UNMAPPED,
)
SOURCE_LLDS = (16, 60, 18, 34, 48, 52, 32)
SOURCE_DECORRELATED = {"stats8": (52, 243, 82, 129, 184, 311, 256), "stats15": (87, 396, 138, 223, 314, 500, 480)}
SOURCE_GROUP_PCA = {"stats8": (24, 83, 31, 41, 56, 112, 0), "stats15": (32, 125, 45, 66, 87, 161, 0)}
SOURCE_GLOBAL_PCA = {"stats8": 242, "stats15": 317}


@dataclass(frozen=True)
class Reduced:
    """A reduction fitted on a whole table, to be looked at: nothing that it leaves may be used to test a model.

    fitted : the transformer
    values : (n, k) what it leaves, index as the table
    """

    fitted: Decorrelate | GroupPca | GlobalPca
    values: pd.DataFrame


def reduce_table(name: str, values: pd.DataFrame, columns: pd.DataFrame, as_source: bool = False) -> Reduced:
    """Fit a reduction on all rows, with the steps before it that models have.

    name : key of `REDUCTIONS`; values : (n, p); columns : what each column means
    as_source : components of the columns as they are, only standardised, instead of their normal scores
    """
    steps = reducing_steps(name, columns)
    model = Pipeline([steps[0], steps[-1]] if as_source else steps)
    reduced, fitted = model.fit_transform(values.to_numpy()), model["reduce"]
    return Reduced(fitted, pd.DataFrame(reduced, values.index, fitted.get_feature_names_out(values.columns)))


def expected_columns(table: str) -> list[str] | None:
    """Names of the columns that a table is made to have, or None where it has parts that are not statistics of LLDs."""
    parts = parts_of(table)
    if any(part not in STATISTICS for part in parts):
        return None
    return [column for part in parts for column in column_names(lld_columns(), STATISTICS[part])]


def coverage(columns: pd.DataFrame, expected: list[str] | None) -> pd.DataFrame:
    """Rows group, llds, columns, expected (columns, NaN where unknown): what a table has of each perceptual group."""
    counts = columns.groupby("group", sort=False).agg(llds=("lld", "nunique"), columns=("lld", "size"))
    if expected is not None:
        # Under the same rule as the table's own columns.
        mapped = columns.drop_duplicates("lld").set_index("lld")["group"]
        about = describe_columns(expected)
        counts["expected"] = about["lld"].map(mapped).fillna(about["group"]).value_counts()
    else:
        counts["expected"] = np.nan
    order = [group for group in GROUPS if group in counts.index]
    return counts.loc[order + list(counts.index.difference(order, sort=False))].rename_axis("group").reset_index()


def left_by_group(fitted: Decorrelate | GroupPca | GlobalPca, columns: pd.DataFrame) -> pd.DataFrame:
    """Rows group, columns (that went in), kept and dropped (by decorrelation), components (that came out)."""
    if isinstance(fitted, GlobalPca):
        block = fitted.blocks_[EVERYTHING]
        row = {"group": EVERYTHING, "columns": len(block["columns"]), "components": len(block["loadings"])}
        return pd.DataFrame([row])
    decorrelate = fitted if isinstance(fitted, Decorrelate) else fitted.decorrelate_
    decisions = decorrelate.decisions(columns.index)
    if isinstance(fitted, GroupPca):
        decisions = decisions[decisions["group"] != UNMAPPED]
    table = decisions.groupby("group", sort=False)["kept"].agg(columns="size", kept="sum").reset_index()
    table["dropped"] = table["columns"] - table["kept"]
    if isinstance(fitted, GroupPca):
        sizes = {group: len(block["loadings"]) for group, block in fitted.blocks_.items()}
        table["components"] = [sizes.get(group, 0) for group in table["group"]]
    return table


def as_in_source(columns: pd.DataFrame) -> pd.DataFrame:
    """The same columns, with static MFCCs in no group, as the source's code has it."""
    source = describe_columns(columns.index, "source")["group"]
    return columns.assign(group=source.where(columns["lld"].isin(lld_columns()), columns["group"]))


def against_source(table: str, values: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    """Our counts under the source's rules beside its own.

    table : "stats8" or "stats15"; values, columns : as in `reduce_table`, all tracks

    Returns
    -------
    Rows step ("columns" or a reduction), group ("all" where there is one number), ours, source
    """
    if table not in STATISTICS:
        raise UserError(
            f"--reproduce-source has counts of stats8 and stats15 only, not of {table!r}; name one of these"
        )
    columns = as_in_source(columns)
    raw = columns["group"].value_counts()
    kept = left_by_group(reduce_table("decorrelated", values, columns).fitted, columns).set_index("group")["kept"]
    grouped = left_by_group(reduce_table("group-pca", values, columns, as_source=True).fitted, columns)
    components = grouped.set_index("group")["components"]
    steps = {
        "columns": (raw, [n * len(STATISTICS[table]) for n in SOURCE_LLDS]),
        "decorrelated": (kept, SOURCE_DECORRELATED[table]),
        "group-pca": (components, SOURCE_GROUP_PCA[table]),
    }
    rows = [
        (step, group, int(ours.get(group, 0)), source)
        for step, (ours, counts) in steps.items()
        for group, source in zip(GROUPS, counts, strict=True)
    ]
    everything = reduce_table("global-pca", values, columns, as_source=True).values.shape[1]
    rows.append(("global-pca", EVERYTHING, everything, SOURCE_GLOBAL_PCA[table]))
    return pd.DataFrame(rows, columns=["step", "group", "ours", "source"])
