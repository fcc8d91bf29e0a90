"""The figures of the page about the data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.label_table import LabelTable, concatenate
from training.report.gallery import Gallery, Item
from training.report.plots import data as plots
from training.scoring.evaluated_runs import Run

__all__ = ["data_figures"]

Array = NDArray[Any]


def data_figures(gallery: Gallery, runs: Sequence[Run], tables: Mapping[str, LabelTable]) -> list[Item]:
    """Label counts, co-occurrence, age and sex: of the label lists or, without any, of the first run's images."""
    label_set = runs[0].cases.label_set
    if tables:
        sets = {name: (len(table), table.labels.sum(axis=0, dtype=int)) for name, table in tables.items()}
        everything = concatenate(tables.values())
        everything = everything.take(np.unique(everything.names, return_index=True)[1])  # lists may overlap
        all_labels, which = everything.labels.astype(int), f"the {len(everything):,} images of the label lists"
    else:
        everything = None
        all_labels = (runs[0].cases.y_true == 1).astype(int)
        which = f"the {len(all_labels):,} test images of {runs[0].name}"
        recorded = runs[0].facts.get("label_counts", {})  # of the sets it was trained and validated on
        sets = {
            name: (runs[0].facts["images"][name], np.array([counts[code] for code in label_set.codes]))
            for name, counts in recorded.items()
        }
        sets["test"] = len(all_labels), all_labels.sum(axis=0)
    items = [_counts_figure(gallery, "label_counts", "Label counts", sets, label_set)]
    if everything is not None and len(set(everything.sources.tolist())) > 1:
        members = {name: everything.labels[everything.sources == name] for name in _by_size(everything.sources)}
        sources = {name: (len(labels), labels.sum(axis=0, dtype=int)) for name, labels in members.items()}
        items.append(_counts_figure(gallery, "source_counts", "Label counts of each source", sources, label_set))
    items += _co_occurrence_figures(gallery, all_labels.T @ all_labels, which, label_set)
    items.append(_age_figure(gallery, everything))
    return items


def _co_occurrence_figures(gallery: Gallery, together: Array, which: str, label_set: LabelSet) -> list[Item]:
    """`together`: int (classes, classes), the images with both labels. `which`: the images, in words."""
    items = []
    header = ["label", *label_set.codes]
    rows = [[code, *row] for code, row in zip(label_set.codes, together.tolist(), strict=True)]
    how = f"Labels that occur together in {which}; the wider a band, the more images carry both labels at its ends."
    pairs = np.triu(together, 1).any()
    if len(label_set.exclusive) == 2 and pairs:
        items.append(gallery.add("sankey", "Co-occurrence", how, plots.label_sankey(together, label_set), header, rows))
    else:
        why = f"No Sankey diagram: it needs labels in two exclusive groups, which {label_set.name} has not, or images."
        items.append(Item("Co-occurrence", why))
    if pairs:
        caption = how + " An arc's length counts these pairs, the number beside it the images with the label."
        chord = plots.label_chord(together, label_set)
        items.append(gallery.add("chord", "Co-occurrence as a chord diagram", caption, chord, header, rows))
    else:
        items.append(Item("Co-occurrence as a chord diagram", "No chord diagram: no two labels occur together."))
    return items


def _by_size(values: Array) -> list[str]:
    """The values, the most frequent first."""
    names, counts = np.unique(values, return_counts=True)
    return names[np.argsort(-counts, kind="stable")].tolist()


def _counts_figure(
    gallery: Gallery, key: str, title: str, sets: Mapping[str, tuple[int, Array]], label_set: LabelSet
) -> Item:
    """`sets`: per set the number of its images and of those with each label."""
    sizes = {name: size for name, (size, _) in sets.items()}
    counts = {name: count for name, (_, count) in sets.items()}
    return gallery.add(
        key,
        title,
        "Images that carry each label and their share of the set. " + _shares_note(label_set),
        plots.label_counts(counts, sizes, label_set),
        ["set", "images", *label_set.codes],
        [[name, sizes[name], *counts[name].tolist()] for name in counts],
    )


def _shares_note(label_set: LabelSet) -> str:
    grouped = {code for group in label_set.exclusive for code in group}
    if grouped != set(label_set.codes):
        return "An image may carry several labels, or none: the shares need not add up to 100 %."
    if len(label_set.exclusive) == 1:
        return "An image carries exactly one of them."
    return "An image carries several labels, one of each exclusive group: the shares add up to more than 100 %."


def _age_figure(gallery: Gallery, table: LabelTable | None) -> Item:
    columns = {} if table is None else {name.lower(): values for name, values in table.extra.items()}
    if table is None or not {"age", "sex"} & set(columns):
        return Item("Age and sex", "Not shown: it needs label lists (--labels) with a column age or sex.")
    first = np.unique(table.patients, return_index=True)[1]
    empty = np.full(len(table), "", np.str_)
    ages = np.array([_parse_age(text) for text in columns.get("age", empty)[first].tolist()])
    sexes = np.char.strip(columns.get("sex", empty)[first])
    unknown = int(np.isnan(ages).sum())
    caption = f"{len(first):,} patients, each counted once, at the first of their images in the lists."
    if unknown and "age" in columns:
        caption += f" The age of {unknown:,} is not given."
    patients = zip(table.patients[first].tolist(), ages.tolist(), sexes.tolist(), strict=True)
    return gallery.add(
        "age_sex", "Age and sex", caption, plots.age_and_sex(ages, sexes), ["patient", "age", "sex"], patients
    )


def _parse_age(text: str) -> float:
    try:
        age = float(text)
    except ValueError:
        return np.nan
    return age if 0 <= age < 130 else np.nan
