"""What Prometheus reads: the right numbers, and nothing about a patient."""

from prometheus_client.parser import text_string_to_metric_families

from edge_app.health.metrics import Metrics


def read(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.render().decode())
    samples = (sample for family in families for sample in family.samples)
    return {" ".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


def test_the_state_of_a_box_in_numbers(screened_box):
    store = screened_box.store()
    metrics = Metrics(screened_box.config(), store)
    states = store.counts()
    before = read(metrics)
    for state, number in states.items.items():
        assert before[f"realmnet_box_items {state}"] == number
    assert before["realmnet_box_items done"] > 5
    assert before["realmnet_box_items quarantined"] == 1
    assert before["realmnet_box_deliveries pending"] == states.deliveries["pending"] > 0
    assert before["realmnet_box_oldest_pending_seconds"] == 0
    assert before["realmnet_box_waiting_deliveries files"] == states.deliveries["pending"]
    assert before["realmnet_box_oldest_delivery_seconds files"] > 0
    assert before["realmnet_box_last_success_timestamp_seconds"] > 1.7e9
    assert before["realmnet_box_free_disk_bytes"] > 0
    assert before["realmnet_box_latency_seconds_count"] == 0
    assert before["realmnet_box_dropped_objects"] == 0

    store.drop_object("Encapsulated PDF Storage (1.2.840.10008.5.1.4.1.1.104.1)", "SCANNER")
    quarantined = store.items("quarantined")[0]
    store.retry(quarantined.id, "anna")
    metrics.observe(store.items("done")[0])
    metrics.observe(quarantined)  # has no result, so no latency
    metrics.deaths.inc()
    after = read(metrics)
    assert after["realmnet_box_items pending"] == 1
    assert after["realmnet_box_oldest_pending_seconds"] > 0
    assert after["realmnet_box_latency_seconds_count"] == 1
    assert after["realmnet_box_latency_seconds_sum"] >= 0
    assert after["realmnet_box_worker_deaths_total"] == 1
    assert after["realmnet_box_dropped_objects"] == 1
    store.close()


def test_no_label_tells_of_a_patient(screened_box):
    store = screened_box.store()
    text = Metrics(screened_box.config(), store).render().decode()
    for item in store.items():
        assert not item.file_name or item.file_name not in text
    labels = {sample for family in text_string_to_metric_families(text) for s in family.samples for sample in s.labels}
    assert labels <= {"state", "le", "destination"}
    store.close()
