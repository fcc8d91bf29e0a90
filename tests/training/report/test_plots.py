import io
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from keras_realmnet.tasks.vocabulary import PALM, PSMM
from tests.training.scoring.clinic.made_up import cohort as screened
from training.report.plots.class_maps import Example, class_maps
from training.report.plots.clinic import flow_and_causes
from training.report.plots.data import age_and_sex, label_chord, label_counts, label_sankey
from training.report.plots.files import jpeg, png, svg
from training.report.plots.learning import learning_curves
from training.report.plots.predictions import Bins, confusion, precision_recall_curves, reliability, roc_curves
from training.report.plots.scores import class_bars, metric_bars, radar
from training.report.plots.style import looks_of
from training.scoring.clinic.figures import clinic_figures
from training.scoring.statistics.bootstrap import Interval

NOTHING = Interval(None, None, None, 0)
RUNS = ("first", "second")
LOOKS = looks_of(RUNS)


@pytest.fixture(scope="module")
def cohort():
    """PSMM-like truth, (400, 7), and scores of two runs."""
    rng = np.random.default_rng(0)
    y_true = np.zeros((400, 7))
    rows = np.arange(400)
    y_true[rows, rng.choice(2, 400, p=[0.7, 0.3])] = 1
    y_true[rows, 2 + rng.choice(5, 400, p=[0.1, 0.6, 0.15, 0.1, 0.05])] = 1
    scores = {run: 1 / (1 + np.exp(-(2 * y_true - 1 + rng.normal(size=y_true.shape)))) for run in RUNS}
    return y_true, scores


def interval(value, width=0.05):
    return Interval(value, value - width, value + width, 1000)


def together(y_true):
    return (y_true.T @ y_true).astype(int)


def drawn(name, cohort):
    """The figure called `name` of the cohort, made anew."""
    y_true, scores = cohort
    values = [interval(0.1 * k + 0.45) for k in range(6)] + [NOTHING]
    panels = {
        c: {r: (y_true[:, k], s[:, k], interval(0.9)) for r, s in scores.items()} for k, c in enumerate("STUVWXY")
    }
    bins = Bins(np.linspace(0.05, 0.95, 10), np.linspace(0, 1, 10), np.arange(10), "ECE 0.05")
    history = {"epoch": np.arange(1.0, 5), "size": np.array([64, 64, 96, 96]), "loss": np.array([3, 2, 1.5, 1])}
    example = Example(np.full((96, 96, 3), 90, np.uint8), np.eye(3), 0.75)
    makers = {
        "label_counts": lambda: label_counts({"train": y_true.sum(0)}, {"train": 400}, PSMM),
        "label_sankey": lambda: label_sankey(together(y_true), PSMM),
        "label_chord": lambda: label_chord(together(y_true), PSMM),
        "age_and_sex": lambda: age_and_sex(np.array([30, 41, np.nan, 62]), np.array(["F", "M", "", "F"])),
        "metric_bars": lambda: metric_bars(
            {run: {"F1": interval(0.8), "loss": interval(0.2)} for run in RUNS},
            [("up", ["F1"]), ("down", ["loss"])],
            LOOKS,
        ),
        "class_bars": lambda: class_bars({run: {"F1": values} for run in RUNS}, PSMM, LOOKS),
        "radar": lambda: radar({"F1": {run: np.linspace(0.3, 0.9, 7) for run in RUNS}}, PSMM, LOOKS),
        "learning_curves": lambda: learning_curves(dict.fromkeys(RUNS, history), LOOKS),
        "roc_curves": lambda: roc_curves(panels, LOOKS),
        "precision_recall_curves": lambda: precision_recall_curves(panels, LOOKS),
        "reliability": lambda: reliability({"A1": dict.fromkeys(RUNS, bins)}, LOOKS),
        "confusion": lambda: confusion(dict.fromkeys(RUNS, np.eye(5, dtype=int)), PSMM.codes[2:], PSMM),
        "flow_and_causes": lambda: flow_and_causes(clinic_figures(screened(rp=30, nn=50, ip=3, xn=2))),
        "class_maps": lambda: class_maps({"S0": {"found": example, "missed": None}}),
    }
    return makers[name]()


NAMES = [
    "label_counts",
    "label_sankey",
    "label_chord",
    "age_and_sex",
    "metric_bars",
    "class_bars",
    "radar",
    "learning_curves",
    "roc_curves",
    "precision_recall_curves",
    "reliability",
    "confusion",
    "flow_and_causes",
    "class_maps",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_arrays_give_the_same_bytes(name, cohort):
    first, second = svg(drawn(name, cohort)), svg(drawn(name, cohort))
    assert first == second
    root = ElementTree.fromstring(first)
    assert root.tag.endswith("svg")
    assert b"<dc:date>" not in first
    for element in root.iter():  # nothing is fetched
        for key, value in element.attrib.items():
            assert not (key.endswith("href") and value.startswith("http"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "label_sankey"])
def test_no_text_is_cut_off_or_written_over_another(name, cohort, monkeypatch):
    figure = drawn(name, cohort)
    canvas = FigureCanvasAgg(figure)
    texts, draw = [], mpl.text.Text.draw

    def recorded(text, renderer):  # ticks outside of the axes have texts too, which are not drawn
        texts.append(text)
        draw(text, renderer)

    monkeypatch.setattr(mpl.text.Text, "draw", recorded)
    canvas.draw()
    found = {text: text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text().strip()}
    boxes = [(text.get_text(), box) for text, box in found.items()]
    assert boxes
    for content, box in boxes:
        assert box.x0 >= -1, content
        assert box.y0 >= -1, content
        assert box.x1 <= figure.bbox.x1 + 1, content
        assert box.y1 <= figure.bbox.y1 + 1, content
    for k, (content, box) in enumerate(boxes):
        for other, another in boxes[:k]:
            x = min(box.x1, another.x1) - max(box.x0, another.x0)
            y = min(box.y1, another.y1) - max(box.y0, another.y0)
            assert x < 2 or y < 2, f"{content!r} over {other!r}"


def test_png_has_the_width_of_two_columns(cohort):
    figure = drawn("label_counts", cohort)
    picture = Image.open(io.BytesIO(png(figure)))
    assert picture.width == round(7.1 * 200)
    assert picture.format == "PNG"
    assert Image.open(io.BytesIO(jpeg(figure))).width == round(7.1 * 150)


def test_a_run_looks_the_same_in_every_figure(cohort):
    colours = {run: mpl.colors.to_rgba(LOOKS[run].colour) for run in RUNS}
    for name in ("radar", "learning_curves", "roc_curves", "precision_recall_curves", "reliability"):
        lines = drawn(name, cohort).findobj(lambda artist: isinstance(artist, mpl.lines.Line2D))
        for run, colour in colours.items():
            found = {mpl.colors.to_rgba(line.get_color()) for line in lines if line.get_label() == run}
            assert found == {colour}, name
    bars = drawn("metric_bars", cohort).axes[0].containers
    assert {bar.get_label(): bar.patches[0].get_facecolor() for bar in bars} == colours


def test_more_runs_than_colours_still_differ():
    looks = looks_of([str(k) for k in range(20)])
    assert len({(look.colour, look.dash) for look in looks.values()}) == 20
    assert len({(look.colour, look.hatch) for look in looks.values()}) == 20


def test_curves_are_those_of_the_scores(cohort):
    """The area under what is drawn is scikit-learn's AUROC, and the sum of the steps its average precision."""
    y_true, scores = cohort
    truth, score = y_true[:, 4].copy(), scores["first"][:, 4]
    truth[:20] = np.nan
    known = ~np.isnan(truth)
    panel = {"A2": {"first": (truth, score, interval(0.9))}}
    looks = looks_of(["first"])
    (line,) = [line for line in roc_curves(panel, looks).axes[0].lines if line.get_label() == "first"]
    x, y = line.get_data()
    assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(truth[known], score[known]), abs=1e-12)
    drawn = precision_recall_curves(panel, looks).axes[0].lines
    (line,) = [line for line in drawn if line.get_label() == "first"]
    recall, precision = line.get_data()
    assert line.get_drawstyle() == "steps-post"  # each precision holds down to the next smaller recall
    steps = np.sum(-np.diff(recall) * precision[:-1])
    assert steps == pytest.approx(average_precision_score(truth[known], score[known]), abs=1e-12)


def test_a_class_without_positives_has_no_curve():
    panel = {"A4": {"first": (np.zeros(10), np.linspace(0, 1, 10), NOTHING)}}
    for figure in (roc_curves, precision_recall_curves):
        axis = figure(panel, looks_of(["first"])).axes[0]
        assert [len(line.get_xdata()) for line in axis.lines] == [0]
        assert "not defined" in [text.get_text() for text in axis.texts]


def test_bars_have_the_values_and_the_intervals():
    scores = {"first": {"F1": [interval(0.8, 0.1), NOTHING, interval(0.6)]}}
    axis = class_bars(scores, PALM, looks_of(["first"])).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.8, 0.0, 0.6]
    assert axis.lines[0].get_ydata() == pytest.approx([0.7, 0.9])
    assert [text.get_text() for text in axis.texts] == ["0.800", "n/a", "0.600"]
    assert len(axis.lines) == 2


def test_confusion_prints_counts_and_row_shares():
    counts = np.array([[3, 1], [0, 0]])
    axis = confusion({"first": counts}, ("S0", "S1"), PSMM).axes[0]
    assert [text.get_text() for text in axis.texts] == ["3\n(75 %)", "1\n(25 %)", "–", "–"]
    np.testing.assert_allclose(axis.images[0].get_array(), [[75, 25], [0, 0]])


def test_the_sankey_diagram_counts_each_pair_once(cohort):
    counts = together(cohort[0])
    figure = label_sankey(counts, PSMM)
    link = figure.data[0].link
    assert sum(link.value) == 400
    labels = [label.split()[0] for label in figure.data[0].node.label]
    for source, target, value in zip(link.source, link.target, link.value, strict=True):
        assert value == counts[PSMM.codes.index(labels[source]), PSMM.codes.index(labels[target])]
    with pytest.raises(ValueError, match="two exclusive groups"):
        label_sankey(np.eye(3, dtype=int), PALM)


def test_a_chord_diagram_needs_labels_that_meet():
    with pytest.raises(ValueError, match="occur together"):
        label_chord(np.eye(7, dtype=int), PSMM)
    pair = np.zeros((7, 7), int)
    pair[0, 3] = pair[3, 0] = pair[0, 0] = pair[3, 3] = 5
    written = [text.get_text() for text in label_chord(pair, PSMM).findobj(mpl.text.Text)]
    assert "S0 No staphyloma\n5" in written
    assert not any(text.startswith("A4") for text in written)


def test_ages_are_counted_by_sex():
    ages, sexes = np.array([31, 33, 58, np.nan, 40]), np.array(["F", "F", "M", "M", ""])
    figure = age_and_sex(ages, sexes)
    assert [axis.get_title(loc="left").split("\n")[0] for axis in figure.axes] == ["F", "M", "sex not given"]
    assert [sum(bar.get_height() for bar in axis.patches) for axis in figure.axes] == [2, 1, 1]
    alone = age_and_sex(np.full(5, np.nan), sexes).axes[0]
    assert [bar.get_height() for bar in alone.patches] == [2, 2, 1]


def test_the_class_map_is_outlined_at_its_levels():
    """A blob in the lower right: the image is dimmed elsewhere, and lines surround it; nothing without evidence."""
    image = np.full((64, 64, 3), 200, np.uint8)
    blob = np.zeros((4, 4))
    blob[3, 3] = 1
    shown = {"found": Example(image, blob, 0.9), "missed": Example(image, np.zeros((4, 4)), 0.1)}
    found, missed = class_maps({"A3": shown}).axes
    pixels = found.images[0].get_array()
    right = pixels[:, -64:]
    assert (pixels[:, :64] == 200).all()
    assert (right[60, 60] == 200).all()
    assert (right[4, 4] == 120).all()
    assert len(found.collections) == 4  # two levels, each a dark line under a bright one
    for lines in found.collections:
        inside = np.concatenate([path.vertices for path in lines.get_paths() if len(path.vertices)])
        assert (inside > [64 + 32, 32]).all()
    assert len(missed.collections) == 0
    assert (missed.images[0].get_array()[:, -64:] == 200).all()
