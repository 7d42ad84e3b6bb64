"""Are two ratings exchanged? Static ratings held against the time means of dynamic ones, track by track.

Where a table's columns are exchanged, its static valence follows the dynamic arousal and the reverse. Three questions
are answered: are the two exchanged in this set of tracks (a permutation test), which tracks are (a likelihood for
each track and a two-state segmentation of the sequence), and how sure are the borders.

Conventions
-----------
`static` and `dynamic` have shape (n, 2), columns in the same order (valence, arousal), rows in the order of the track
ids, without gaps. Dynamic values are means over time; their scale may differ from that of the static ones. Evidence
is in nats: log likelihood of the exchanged reading minus that of the straight one, positive where a track looks
exchanged.

Model
-----
Each static rating is a line in its own dynamic rating plus an error; the two errors follow a bivariate t distribution
with four degrees of freedom, so that the weight of an odd track grows only with the logarithm of its oddity. The
lines are fitted together with the states, starting once from "none is exchanged" and once from "all are". Readings
are compared by penalised likelihood:

* a chain of straight and exchanged blocks (Viterbi; a border costs 2 log n: to name its place, and then some),
* each track exchanged by itself with probability pi (a mixture fitted by expectation and maximisation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_TRACKS = 8  # with fewer, lines and errors fit anything
FREEDOM = 4.0
PERMUTATIONS = 9999
ORDERS = 999
RANGE_LEVEL = 0.95
DECIDED = 0.01
CERTAIN = 0.95
LEAST_NAMED = 3


@dataclass(frozen=True)
class Block:
    """Consecutive exchanged tracks: positions start..stop-1; each border with the range that holds it with 95 %.

    A border at an end of the sequence is no border to be found: its range is that one position.
    """

    start: int
    stop: int
    start_range: tuple[int, int]
    stop_range: tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """What the segmentation says.

    kind : "none", "all", "blocks" or "scattered"
    evidence : (n,) nats
    probability : (n,) that the track is exchanged; in blocks 0 or 1 except within the range of a border
    exchanged : (n,) bool, the most likely state of each track
    blocks : for kinds "all" and "blocks"
    gain : nats by which this reading beats "none", penalties included
    block_p : for "blocks", the p-value of their standing together (see `block_p`), else None
    expected : number of exchanged tracks, with its 95 % range
    """

    kind: str
    evidence: np.ndarray
    probability: np.ndarray
    exchanged: np.ndarray
    blocks: tuple[Block, ...]
    gain: float
    block_p: float | None
    expected: tuple[float, float, float]


def agreement(static: np.ndarray, dynamic: np.ndarray) -> np.ndarray:
    """Pearson r of every static (row) with every dynamic rating (column), NaN where one is constant. (2, 2)."""
    a, b = _centred(static), _centred(dynamic)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a / np.sqrt((a * a).sum(0))).T @ (b / np.sqrt((b * b).sum(0)))


def crossing(correlations: np.ndarray) -> float:
    """Crossed minus straight agreement, in [-2, 2]: positive where the static ratings look exchanged. (2, 2)."""
    return float((correlations[0, 1] + correlations[1, 0] - correlations[0, 0] - correlations[1, 1]) / 2)


def exchange_p(static: np.ndarray, dynamic: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """One-sided p-value for "the static ratings of these tracks are exchanged".

    The null hypothesis is that a track's two static labels say nothing of which is which: the statistic `crossing` is
    compared with its values after exchanging the labels of each track with probability 1/2.
    p = (1 + #{null >= observed}) / (permutations + 1); near 1 where the labels are in their right places.
    """
    middle, half = static.mean(1), (static[:, 0] - static[:, 1]) / 2
    middle = middle - middle.mean()
    driver = _centred(dynamic) / np.sqrt((_centred(dynamic) ** 2).sum(0))
    rng = np.random.default_rng(seed)
    null = [_crossings(s, middle, half, driver) for s in _random_signs(rng, permutations, len(static))]
    observed = _crossings(np.ones((1, len(static))), middle, half, driver)[0]
    return float((1 + np.sum(np.concatenate(null) >= observed - 1e-12)) / (permutations + 1))


def loudness_p(loudness: np.ndarray, static: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """One-sided p-value for "loudness goes with the first static rating more than with the second".

    Loudness is an objective stand-in for arousal: a small p says that the column called valence holds arousal.
    Same null hypothesis as `exchange_p`; statistic r(loudness, first) - r(loudness, second). (n,), (n, 2).
    """
    return exchange_p(static, np.column_stack([np.zeros(len(loudness)), loudness]), permutations, seed)


def _random_signs(rng, permutations: int, n: int):
    """Random signs in chunks of at most 4 million cells."""
    rows = max(1, 4_000_000 // n)
    for start in range(0, permutations, rows):
        yield rng.integers(0, 2, (min(rows, permutations - start), n), dtype=np.int8) * 2.0 - 1.0


def _crossings(signs: np.ndarray, middle: np.ndarray, half: np.ndarray, driver: np.ndarray) -> np.ndarray:
    """`crossing` of every row of signs; ratings are middle + sign * half and middle - sign * half. (rows,).

    Sums over tracks are linear in the signs, so that one matrix product gives them all.
    """
    driver = np.nan_to_num(driver)  # a constant column agrees with nothing
    n = len(middle)
    sums = signs @ np.column_stack([half, middle * half, half[:, None] * driver])
    base = middle @ driver
    squares = (middle**2 + half**2).sum()
    total = np.zeros(len(signs))
    for side, own, other in ((1.0, 0, 1), (-1.0, 1, 0)):
        variance = squares + 2 * side * sums[:, 1] - sums[:, 0] ** 2 / n
        product = base + side * sums[:, 2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            total += np.nan_to_num((product[:, other] - product[:, own]) / np.sqrt(variance))
    return total / 2


def find_exchange(static: np.ndarray, dynamic: np.ndarray) -> Finding:
    """Which tracks of an ordered sequence have their static ratings exchanged; ValueError with fewer than MIN_TRACKS.

    static, dynamic : (n, 2), no column constant
    """
    n = len(static)
    if n < MIN_TRACKS or np.any(np.ptp(static, axis=0) == 0) or np.any(np.ptp(dynamic, axis=0) == 0):
        raise ValueError(f"{n} tracks with ratings that vary are needed to be at least {MIN_TRACKS}")
    chains = [_fit_chain(static, dynamic, start) for start in (0.0, 1.0)]
    mixtures = [_fit_mixture(static, dynamic, start) for start in (0.0, 1.0)]
    (score, states, evidence), mixture = max(chains, key=lambda c: c[0]), max(mixtures, key=lambda m: m[0])
    none = _log_likelihood(static, dynamic, _fit(static, dynamic, np.zeros(n))).sum()
    # A mixture has as many ways to fit noise as there are tracks: log n to spare, and tracks that can be named.
    if mixture[0] - np.log(n) > score and np.sum(mixture[1] > CERTAIN) >= LEAST_NAMED:
        return _scattered(mixture, none)
    p = block_p(evidence) if states.any() and not states.all() else None
    if p is not None and p > DECIDED:
        p, states = None, np.full(n, evidence.sum() > 0)
    return _chained(states, evidence, p, score - none)


def _chained(states: np.ndarray, evidence: np.ndarray, p: float | None, gain: float) -> Finding:
    blocks = _blocks(states, evidence)
    probability = states.astype(float)
    for block in blocks:
        _soften(probability, evidence, states, block)
    kind = "none" if not blocks else "all" if states.all() else "blocks"
    low = sum(b.stop_range[0] - b.start_range[1] for b in blocks)
    high = sum(b.stop_range[1] - b.start_range[0] for b in blocks)
    return Finding(kind, evidence, probability, states, blocks, gain, p, (float(states.sum()), low, high))


def _scattered(mixture: tuple, none: float) -> Finding:
    score, probability, evidence = mixture
    count, spread = probability.sum(), 1.96 * np.sqrt((probability * (1 - probability)).sum())
    expected = (float(count), float(max(0.0, count - spread)), float(min(len(evidence), count + spread)))
    return Finding("scattered", evidence, probability, probability > 0.5, (), score - none, None, expected)


def block_p(evidence: np.ndarray, orders: int = ORDERS, seed: int = 0) -> float:
    """p-value for "what looks exchanged stands together": the best block's gain against that of shuffled orders.

    p = (1 + #{null >= observed}) / (orders + 1). It corrects for having searched all blocks. (n,).
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(evidence, (orders, 1)), axis=1)
    return float((1 + np.sum(_block_gain(shuffled) >= _block_gain(evidence[None])[0] - 1e-9)) / (orders + 1))


def _block_gain(evidence: np.ndarray) -> np.ndarray:
    """What one block adds to the better of "none" and "all" exchanged, for each row. (rows, n) -> (rows,)."""

    def best_sum(values: np.ndarray) -> np.ndarray:
        sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        return (sums - np.minimum.accumulate(sums, axis=1)).max(1)

    total = evidence.sum(1)
    return np.maximum(best_sum(evidence), total + best_sum(-evidence)) - np.maximum(total, 0)


def _centred(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(0)
    centred[:, np.ptp(values, axis=0) == 0] = np.nan
    return centred


def _fit(static: np.ndarray, dynamic: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intercepts, slopes and error covariance by least squares, each track read exchanged with its weight in [0, 1]."""
    both = np.concatenate([1 - weight, weight])
    y = np.concatenate([static, static[:, ::-1]])
    x = np.concatenate([dynamic, dynamic])
    share = (both / both.sum())[:, None]
    mean_x, mean_y = (share * x).sum(0), (share * y).sum(0)
    slope = (share * (x - mean_x) * (y - mean_y)).sum(0) / (share * (x - mean_x) ** 2).sum(0)
    error = y - mean_y - slope * (x - mean_x)
    # Ratings that are exact lines of one another would have no error at all; a thousandth of their spread is the least.
    covariance = (share * error).T @ error + np.eye(2) * 1e-6 * static.var(0).mean()
    return mean_y - slope * mean_x, slope, covariance


def _log_likelihood(static: np.ndarray, dynamic: np.ndarray, fitted: tuple) -> np.ndarray:
    """Log density of each track's static ratings, up to a constant. (n,)."""
    intercept, slope, covariance = fitted
    error = static - intercept - slope * dynamic
    scale = covariance * (FREEDOM - 2) / FREEDOM  # of the t distribution that has this covariance
    distance = np.einsum("ni,ij,nj->n", error, np.linalg.inv(scale), error)
    return -(FREEDOM + 2) / 2 * np.log1p(distance / FREEDOM) - np.linalg.slogdet(scale)[1] / 2


def _readings(static: np.ndarray, dynamic: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood of each track read straight, and read exchanged, after a fit with these weights."""
    fitted = _fit(static, dynamic, weight)
    return _log_likelihood(static, dynamic, fitted), _log_likelihood(static[:, ::-1], dynamic, fitted)


def _fit_chain(static: np.ndarray, dynamic: np.ndarray, start: float, rounds: int = 30) -> tuple:
    """Penalised log likelihood, states and evidence of the best chain of blocks."""
    cost = 2 * np.log(len(static))
    weight = np.full(len(static), start)
    for _ in range(rounds):
        straight, exchanged = _readings(static, dynamic, weight)
        states = viterbi(exchanged - straight, cost)
        if np.array_equal(states, weight):
            break
        weight = states.astype(float)
    borders = np.count_nonzero(np.diff(states))
    return np.where(states, exchanged, straight).sum() - cost * borders, states, exchanged - straight


def _fit_mixture(static: np.ndarray, dynamic: np.ndarray, start: float, rounds: int = 100) -> tuple:
    """Penalised log likelihood, probabilities and evidence when every track is exchanged or not by itself."""
    n, share = len(static), 0.5
    weight = np.full(n, start)
    for _ in range(rounds):
        straight, exchanged = _readings(static, dynamic, weight)
        evidence = exchanged - straight
        updated = 1 / (1 + np.exp(-np.clip(np.log(share / (1 - share)) + evidence, -500, 500)))
        share = float(np.clip(updated.mean(), 1e-9, 1 - 1e-9))
        if np.abs(updated - weight).max() < 1e-6:
            break
        weight = updated
    likelihood = np.logaddexp(np.log(1 - share) + straight, np.log(share) + exchanged).sum()
    return likelihood - np.log(n) / 2, updated, evidence


def viterbi(evidence: np.ndarray, cost: float) -> np.ndarray:
    """States (n,) bool that maximise the sum of evidence over the True ones, less `cost` for every change of state."""
    n = len(evidence)
    stay = np.ones((n, 2), bool)
    score = [0.0, float(evidence[0])]
    for i in range(1, n):
        for state in (0, 1):
            stay[i, state] = score[state] >= score[1 - state] - cost
        score = [max(score[0], score[1] - cost), max(score[1], score[0] - cost) + float(evidence[i])]
    states = np.empty(n, bool)
    states[-1] = score[1] > score[0]
    for i in range(n - 1, 0, -1):
        states[i - 1] = states[i] if stay[i, int(states[i])] else not states[i]
    return states


def _blocks(states: np.ndarray, evidence: np.ndarray) -> tuple[Block, ...]:
    edges = np.flatnonzero(np.diff(states)) + 1
    bounds = [0, *edges.tolist(), len(states)]
    found = []
    for place, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        if states[start]:
            before = bounds[place - 1] if place else start
            after = bounds[place + 2] if place + 2 < len(bounds) else stop
            found.append(
                Block(start, stop, _range(evidence, before, start, stop), _range(-evidence, start, stop, after))
            )
    return tuple(found)


def _range(evidence: np.ndarray, low: int, border: int, high: int) -> tuple[int, int]:
    """Positions between which a border lies with 95 %, tracks from the border on being exchanged; neighbours fixed."""
    places, mass = _border_mass(evidence, low, border, high)
    cumulative = np.cumsum(mass)
    tail = (1 - RANGE_LEVEL) / 2
    first, last = np.searchsorted(cumulative, [tail, 1 - tail])
    return min(int(places[first]), border), max(int(places[min(last, len(places) - 1)]), border)


def _border_mass(evidence: np.ndarray, low: int, border: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Possible places of a border and the probability of each; an end of the sequence is certain."""
    if border in (0, len(evidence)):
        return np.array([border]), np.array([1.0])
    places = np.arange(low + 1, high)
    sums = np.concatenate([[0.0], np.cumsum(evidence)])
    weight = -sums[places]
    mass = np.exp(weight - weight.max())
    return places, mass / mass.sum()


def _soften(probability: np.ndarray, evidence: np.ndarray, states: np.ndarray, block: Block) -> None:
    """Let the probability rise and fall across the possible places of a block's borders."""
    edges = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
    before = max((e for e in edges if e < block.start), default=0)
    after = min((e for e in edges if e > block.stop), default=len(states))
    if block.start > 0:
        places, mass = _border_mass(evidence, before, block.start, block.stop)
        probability[places] = np.clip(np.cumsum(mass), 0, 1)
    if block.stop < len(states):
        places, mass = _border_mass(-evidence, block.start, block.stop, after)
        falling = np.clip(1 - np.cumsum(mass), 0, 1)
        inside = places[places < block.stop]
        probability[inside] = np.minimum(probability[inside], falling[: len(inside)])
        probability[places[places >= block.stop]] = falling[len(inside) :]
