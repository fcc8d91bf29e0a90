"""How many pictures became what, by week, sender and bundle: compared with what was put in."""

from collections import Counter
from datetime import date, timedelta

from store_steps import receive, receive_file, screened

from edge_app.store.tallies import monday

THIS_WEEK = monday(date.today())


def all_tallies(store):
    return {
        (each.week, each.source, each.origin, each.bundle): each
        for each in store.tallies(date(2000, 1, 3), date(9000, 1, 6))
    }


def move(store, item, day: date) -> None:
    """Lets an item have come at noon of a day."""
    with store.write() as db:
        db.execute("UPDATE items SET received_at = ? WHERE id = ?", (f"{day}T12:00:00.000+00:00", item.id))


def test_outcomes_are_counted_by_week_sender_and_bundle(store):
    for number, outcome in enumerate(("refer", "negative", "negative")):
        screened(store, b"%d" % number, f"1.{number}", outcome=outcome, bundle_name="uwf")
    for number, sharpness in enumerate((0.2, 0.3)):
        reasons = (f"Out of focus: sharpness {sharpness}.", "Too dark: 1.")[: number + 1]
        screened(store, b"poor%d" % number, f"2.{number}", outcome="insufficient", reasons=reasons, bundle_name="uwf")
    lost = screened(store, b"lost", "3", outcome="not_analysed", error="ModelOutOfOrder", bundle_name="uwf")
    older = screened(store, b"older", "4", outcome="refer", bundle_name="fundus")
    move(store, older, THIS_WEEK - timedelta(days=1))  # a Sunday
    receive_file(store, b"waits")
    assert store.record(lost.id).record.missing

    found = all_tallies(store)
    last_week = str(THIS_WEEK - timedelta(days=7))
    assert list(found) == [
        (str(THIS_WEEK), "dicom", "SCANNER", "uwf"),
        (str(THIS_WEEK), "folder", "share", ""),
        (last_week, "dicom", "SCANNER", "fundus"),
    ]
    this, waiting, last = found.values()
    assert this.fates == Counter(refer=1, negative=2, insufficient=2, missing=1)
    assert this.causes == Counter({"Out of focus": 2, "Too dark": 1})
    assert (this.decided, this.retakes, this.finished) == (3, 2, 6)
    assert waiting.fates == Counter(waiting=1)
    assert (waiting.decided, waiting.finished) == (0, 0)
    assert (last.fates, last.decided) == (Counter(refer=1), 1)
    assert (
        sum(sum(each.fates.values()) for each in found.values())
        == store.db.execute("SELECT count(*) FROM items").fetchone()[0]
    )


def test_what_is_in_quarantine_dropped_or_removed_is_counted_with_its_cause(store):
    receive(store, b"one")
    receive(store, b"other")  # the same UID
    store.drop_object("Encapsulated PDF Storage", "SCANNER")
    (tally,) = all_tallies(store).values()
    assert tally.fates == Counter(waiting=1, quarantined=1, dropped=1)
    assert tally.causes == Counter(
        {"The same SOP Instance UID as item …, with other contents": 1, "Encapsulated PDF Storage": 1}
    )
    assert (tally.decided, tally.finished) == (0, 1)


def test_weeks_outside_are_left_out(store):
    item = screened(store, outcome="refer")
    for weeks in (1, 2, 3):
        move(store, item, THIS_WEEK - timedelta(weeks=weeks) + timedelta(days=3))
        assert store.first_received() == THIS_WEEK - timedelta(weeks=weeks)
        for k in range(5):
            first = THIS_WEEK - timedelta(weeks=k)
            assert len(store.tallies(first, first + timedelta(weeks=1))) == (k == weeks)


def test_nothing_has_come(store):
    assert store.first_received() is None
    assert store.tallies(THIS_WEEK, THIS_WEEK + timedelta(weeks=1)) == []
