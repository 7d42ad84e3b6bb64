"""The whole classical route on one dataset: eight configurations x seven families, each cell nested and tested once.

    python -m benchmarks.matrix FOLDER [--models ridge,svr,...] [--workers 2]

Prints wall and processor time of `compare`, reading and summarising descriptors included, and the peak memory of the
process. Descriptors that are in the cache are read from it (`MER_ARTIFACTS`); run it twice to leave their extraction
out. The run is kept, so that its scores can be read.
"""

from __future__ import annotations

import argparse
import resource
import time

from mer_core.compute import one_thread

one_thread()

from mer_core.jobs import Job  # noqa: E402  (after one_thread, which acts on numpy's libraries as they load)
from mer_core.runs import read_run  # noqa: E402
from pipelines import compare  # noqa: E402

FAMILIES = ("ridge", "elasticnet", "svr", "forest", "extra-trees", "boosting", "blend")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="dataset")
    parser.add_argument("--models", default=",".join(FAMILIES), help="families, comma-separated")
    parser.add_argument("--workers", type=int, default=2, help="threads (default 2)")
    options = parser.parse_args()
    models = tuple(options.models.split(","))
    config = compare.Config(dataset=options.folder, features="all", models=models, workers=options.workers)
    started, used, name = time.perf_counter(), time.process_time(), time.strftime("matrix-%Y%m%d-%H%M%S")
    with Job(name, "compare", ()) as job:
        run = read_run(compare.execute(config, job, name))
    wall, used = time.perf_counter() - started, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    table = run.table("comparison").drop_duplicates(["features", "model"])
    print(table.pivot(index="features", columns="model", values="seconds").round(1).to_string())
    print(f"{len(table)} cells: {wall / 60:.1f} min, {used / 60:.1f} CPU min, at most {memory:.2f} GiB")
    print(f"run {run.folder}")


if __name__ == "__main__":
    main()
