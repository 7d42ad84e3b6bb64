"""A relevance map of ten seconds: its time beside that of one pass of the network.

    python -m benchmarks.relevance [--repeats 5]

On musicnn with every rule (noise with a beat, a ridge on made-up embeddings, one target), and on the two networks that
`classify` trains (random weights, which take as long). CPU seconds of this process, so that other work on the machine
counts little; the fastest of the repeats. Maps are made by one thread. Budget: 0.5 s, and 2 s for the ViT.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from mer_core.compute import one_thread

one_thread()

import numpy as np  # noqa: E402  (after one_thread, which acts on numpy's libraries as they load)
import torch  # noqa: E402

from mer_core.evaluate.own_networks import builder  # noqa: E402
from mer_core.explain.lrp_rules import COMPOSITES  # noqa: E402
from mer_core.explain.relevance import relevance_of_track  # noqa: E402
from mer_core.explain.relevance_heads import regression_head  # noqa: E402
from mer_core.explain.spectrogram_relevance import relevance_of_spectrogram  # noqa: E402
from mer_core.models.backbones import open_backbone  # noqa: E402
from mer_core.models.regressors import make_regressor  # noqa: E402
from mer_core.models.training.spectrograms import STYLES  # noqa: E402
from pipelines.maps_of_classes import RULES  # noqa: E402

SECONDS = 10


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of the repeats."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def main() -> None:
    """Print one line per rule and network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    musicnn(repeats)
    for name, rule in RULES.items():
        own(name, rule, repeats)


def musicnn(repeats: int) -> None:
    """One line per rule."""
    rng = np.random.default_rng(0)
    listener = open_backbone("musicnn-msd")
    times = np.arange(SECONDS * listener.backbone.rate) / listener.backbone.rate
    clip = (0.1 * rng.standard_normal(len(times)) * np.exp(-4 * (times % 0.5))).astype(np.float32)
    windows = listener.front_end(clip)
    rows = listener.listen(windows)["embedding"].mean(axis=0) + rng.standard_normal((60, 200))
    head = regression_head(make_regressor("ridge", 0).fit(rows, rows[:, :1]), rows, ("valence",))
    alone = fastest(lambda: listener.listen(windows), repeats)
    print(f"one pass of the network, {len(windows)} windows: {alone:.3f} s")
    for rule in COMPOSITES:

        def explain(rule=rule):
            return relevance_of_track(listener, head, clip, rule=rule)

        spent = fastest(explain, repeats)
        error = explain().conservation_error.max()
        print(f"{rule:18} {spent:.3f} s of CPU, {spent / alone:4.1f} passes, error {error:.0e}")


def own(name: str, rule: str, repeats: int) -> None:
    """One line for a network that `classify` trains, with its default rule."""
    torch.manual_seed(0)
    style, network = STYLES[name], builder(name)().eval()
    table = np.random.default_rng(0).uniform(-1, 0, (style.frames, style.bands)).astype(np.float16)
    picture = torch.from_numpy(table.astype(np.float32))[None]
    with torch.inference_mode():
        alone = fastest(lambda: network(picture), repeats)

    def explain():
        return relevance_of_spectrogram(network, table, style, "happy", 1.0, 0.0, rule, "")

    spent, error = fastest(explain, repeats), explain().conservation_error.max()
    print(f"{name}, {rule}: {spent:.3f} s of CPU, {spent / alone:4.1f} passes of {alone:.3f} s, error {error:.0e}")


if __name__ == "__main__":
    main()
