"""When deliveries leave, and what they end as."""

from datetime import datetime, timedelta, timezone

from store_steps import screened


def test_deliveries_wait_for_their_time_and_end_delivered_or_dead(store):
    screened(store, deliveries=[("pacs", "sr"), ("pacs", "sc")])
    now = datetime.now(timezone.utc)
    first = store.next_delivery(now)
    store.delivery_failed(first.id, "refused", now + timedelta(minutes=1))
    second = store.next_delivery(now)
    assert second.id != first.id
    store.delivered(second.id)
    assert store.next_delivery(now) is None
    assert store.next_delivery(now + timedelta(minutes=2)).id == first.id
    store.delivery_failed(first.id, "refused", None)
    assert store.counts().deliveries == {"pending": 0, "delivered": 1, "dead": 1, "superseded": 0}
    store.redeliver(first.id, "anna")
    assert store.next_delivery().id == first.id


def test_what_a_person_asks_for_leaves_first(store):
    for number in range(3):
        screened(store, b"%d" % number, f"1.2.{number}", deliveries=[("pacs", "sr")])
    last = store.deliveries()[0]
    store.delivery_failed(last.id, "away", datetime.now(timezone.utc) + timedelta(hours=1))
    assert store.next_delivery().id != last.id
    assert not store.is_urgent("pacs")
    assert store.redeliver(last.id, "anna")
    assert store.is_urgent("pacs")
    assert store.next_delivery().id == last.id
    assert store.delivery(last.id).attempts == 1  # what waits keeps its count, a dead letter starts anew
    store.delivered(last.id)
    assert not store.is_urgent("pacs")
    assert not store.redeliver(last.id, "anna")
    assert store.delivery(last.id).state == "delivered"
