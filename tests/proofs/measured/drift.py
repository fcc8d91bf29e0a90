"""Proof: how soon the box finds a change of camera, and how often it finds one where there is none.

    python -m tests.proofs.measured.drift bundles/realmnet-demo --recipe phantom_5m_224
    python -m tests.proofs.measured.drift bundles/palm-lite --same palm224/val --every-second \\
        --changed idrid=idrid_fovea_dr
    python -m tests.proofs.measured.drift bundles/palm-lite --mix 0.1:0.3

Pictures like those of a bundle's reference, some altered as another camera would show them (of a recipe, those of its
validation split), and others, go once through the path of the box: quality, features, outcome. Streams of them are
then drawn with replacement, and what `edge_app.health.drift` says is computed after every picture: of the sum of
feature distances, of each index, and of the outcomes. Stated: the mean number of pictures from one false alarm to the
next in streams without a change (average run length, from all alarms and pictures of the streams), and after a change
behind pictures without one the median and the 90th percentile of the pictures until it is found, and the share that
is found within 500.

With `--mix BEFORE:AFTER` only the share of referrals changes, all pictures look the same: a box whose reference is its
clinic's own, of as many pictures as the bundle's. Each stream has a reference of its own, drawn from the share before,
since that is known only as well as so many pictures tell. Independent of any picture, so that none is read.
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edge_app.health import drift
from export.benchmarks.distribution import ALTERATIONS, altered
from export.bundling.reference_pictures import (
    Described,
    Picture,
    describe,
    drawn_data,
    drawn_pictures,
    files_in,
    open_with_features,
    read_pictures,
)
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.tasks.reference import Reference

WITHIN = 500  # pictures after the change
MIX_WITHIN = 2000  # the same of a change of outcomes alone, which is found later


class Stream:
    """What the box would say of pictures drawn from `described`, by its reference."""

    def __init__(self, reference: Reference, described: Described):
        self.reference = reference
        self.scores = drift.normal_scores(reference.distances, reference.distance(described.features))
        self.bins = {
            name: np.searchsorted(usual.edges, described.measures[name], side="right")
            for name, usual in reference.measures.items()
        }
        self.outcomes = [outcome for outcome in described.outcomes if outcome != "insufficient"]
        counts = np.array([described.outcomes[outcome] for outcome in self.outcomes], float)
        self.shares = counts / counts.sum()


def alarms(before: Stream, after: Stream, streams: int, length: int, seed: int) -> dict[str, np.ndarray]:
    """{what is watched: whether it warns after each picture, (streams, length)}; the first `IMAGES` pictures, behind
    which this begins, are drawn from `before`."""
    rng = np.random.default_rng(seed)
    lead = drift.IMAGES
    old = rng.integers(len(before.scores), size=(streams, lead))
    new = rng.integers(len(after.scores), size=(streams, length))
    scores = np.concatenate([before.scores[old], after.scores[new]], axis=1)
    found = {drift.DISTANCE: drift.cumulative_sum(scores)[:, lead:] > drift.SUM_LIMIT}
    for name, usual in before.reference.measures.items():
        bins = np.concatenate([before.bins[name][old], after.bins[name][new]], axis=1)
        found[name] = _index(bins, np.array(usual.shares) * usual.number, lead)
    kinds = sorted({*before.reference.outcomes, *before.outcomes, *after.outcomes})
    drawn = [
        np.array([kinds.index(each) for each in stream.outcomes])[
            rng.choice(len(stream.shares), size=(streams, number), p=stream.shares)
        ]
        for stream, number in ((before, lead), (after, length))
    ]
    usual_counts = np.array([before.reference.outcomes.get(kind, 0) for kind in kinds])
    found[drift.OUTCOMES] = _index(np.concatenate(drawn, axis=1), usual_counts, lead)
    return found


def _index(bins: np.ndarray, usual: np.ndarray, lead: int) -> np.ndarray:
    """Whether the index of the last `IMAGES` passes its limit after each picture behind the lead. `usual`: counts
    (bins,), or (streams, 1, bins) of references of the same size."""
    number = usual.shape[-1]
    sums = np.eye(number, dtype=np.int32)[bins].cumsum(axis=1)
    counts = sums[:, lead:] - sums[:, : sums.shape[1] - lead]
    limit = drift.psi_limit(number, int(usual.sum(axis=-1).max()), drift.IMAGES)
    return np.asarray(drift.psi(usual, counts) > limit)


def mix_warnings(before: float, after: float, usual: int, streams: int, length: int, seed: int) -> np.ndarray:
    """Whether the index of outcomes warns after each picture (streams, length), where the share of referrals goes from
    `before`, in a reference of `usual` pictures and in the lead, to `after`."""
    rng = np.random.default_rng(seed)
    referred = rng.binomial(usual, before, size=(streams, 1, 1))
    lead = rng.random((streams, drift.IMAGES)) < before
    drawn = np.concatenate([lead, rng.random((streams, length)) < after], axis=1)
    return _index(drawn.astype(np.intp), np.concatenate([usual - referred, referred], axis=-1), drift.IMAGES)


def report_mix(before: float, after: float, usual: int, streams: int, length: int) -> None:
    limit = drift.psi_limit(2, usual, drift.IMAGES)
    without = mix_warnings(before, before, usual, streams, length, seed=0)
    first = until_found(mix_warnings(before, after, usual, streams, MIX_WITHIN, seed=1))
    said = [f"within {within:,}: {(first <= within).mean():.0%}" for within in (100, 200, WITHIN, MIX_WITHIN)]
    median, most = (f"{when:,.0f}" for when in np.quantile(first, (0.5, 0.9), method="higher"))
    print(
        f"referrals {before:.0%} to {after:.0%}, a reference of {usual} (limit {limit:.2f}): one false alarm in "
        f"{run_length(without):,.0f} of {without.size:,} pictures, warned of {without.any(axis=1).mean():.1%} of "
        f"{streams} streams; found after {median} pictures in the median, {most} in 9 of 10; {', '.join(said)}"
    )


def run_length(warns: np.ndarray) -> float:
    """Pictures per false alarm: a run of warnings is one. Infinite where there is none."""
    begins = warns[:, 1:] & ~warns[:, :-1]
    number = int(begins.sum() + warns[:, 0].sum())
    return warns.size / number if number else float("inf")


def until_found(warns: np.ndarray) -> np.ndarray:
    """(streams,): pictures of the change until the first warning; infinite where there is none."""
    return np.where(warns.any(axis=1), warns.argmax(axis=1) + 1.0, np.inf)


def report(reference: Reference, same: Described, changed: dict[str, Described], streams: int, length: int) -> None:
    usual = Stream(reference, same)
    without = alarms(usual, usual, streams, length, seed=0)
    anything = np.logical_or.reduce(list(without.values()))
    print(f"no change, {streams} streams of {length:,} pictures; one false alarm in")
    for name, warns in {**without, "any of them": anything}.items():
        rate = run_length(warns)
        said = f"more than {warns.size:,} (none was seen)" if np.isinf(rate) else f"{rate:,.0f}"
        print(f"  {name}: {said}")
    for change, described in changed.items():
        found = alarms(usual, Stream(reference, described), streams, WITHIN, seed=1)
        first = {name: until_found(warns) for name, warns in found.items()}
        soonest = np.min(list(first.values()), axis=0)
        median, most = np.quantile(soonest, (0.5, 0.9), method="higher")
        by = Counter(name for name, times in first.items() for _ in np.flatnonzero(times == soonest))
        where = ", ".join(name for name, _ in by.most_common(3)) if np.isfinite(soonest).any() else "nothing"
        share = np.isfinite(soonest).mean()
        print(
            f"{change}: found by {where} after {median:.0f} pictures in the median, {most:.0f} in 9 of 10; "
            f"within {WITHIN}: {share:.0%}; by the feature distance alone {np.median(first[drift.DISTANCE]):.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--recipe", help="that draws the pictures: its test split")
    parser.add_argument("--same", type=Path, action="append", help="pictures like those of the reference")
    parser.add_argument("--every-second", action="store_true", help="of them, as `export reference` holds them out")
    parser.add_argument("--changed", action="append", default=[], help="NAME=FOLDER of another camera")
    parser.add_argument("--mix", action="append", default=[], help="BEFORE:AFTER, shares of referrals; no pictures")
    parser.add_argument("--most", type=int, default=10**6, help="of a recipe, pictures of each split")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--length", type=int, default=5000)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    reference = bundle.task.reference
    if reference is None or sum(map(bool, (options.recipe, options.same, options.mix))) != 1:
        parser.error("a bundle with a reference is needed, and --same, --recipe or --mix")
    for mix in options.mix:
        before, after = map(float, mix.split(":"))
        report_mix(before, after, sum(reference.outcomes.values()), options.streams, options.length)
    if options.mix:
        return
    output, runtime = open_with_features(bundle)

    def described(pictures: Iterable[Picture]) -> Described:
        return describe(pictures, bundle, runtime, output)

    if options.recipe is not None:
        data = drawn_data(options.recipe)
        known, others = (list(drawn_pictures(data, split, options.most)) for split in ("test", "validation"))
    else:
        files = list(files_in(options.same))
        known = others = list(read_pictures(files[1::2] if options.every_second else files, bundle))
    changed = {kind: described((altered(pixels, kind), source) for pixels, source in others) for kind in ALTERATIONS}
    for name, _, folder in (each.partition("=") for each in options.changed):
        changed[name] = described(read_pictures(files_in([Path(folder)]), bundle))
    report(reference, described(known), changed, options.streams, options.length)


if __name__ == "__main__":
    main()
