"""What the box may never do: lose what it acknowledged, or give one image two results."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Values
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, rule
from store_steps import receive, rows, screened

from edge_app.store.database import timestamp
from edge_app.store.queue import Stale
from edge_app.store.store import Store
from tests.proofs.peers import make_record


def test_every_visible_change_is_counted(store):
    before = store.changes()
    screened(store)
    assert store.changes() > before
    before = store.changes()
    store.worklist()
    assert store.changes() == before


def test_a_clock_that_was_ahead_makes_no_age_negative_and_is_told(store):
    ahead = timestamp(datetime.now(timezone.utc) + timedelta(days=1000))
    screened(store, deliveries=[("pacs", "sr"), ("files", "json")])
    store.delivered(store.next_delivery(destination="files").id)
    receive(store, b"another", uid="1.2.4")
    before = store.counts(), store.last_deliveries(), store.last_received()
    assert before[0].oldest_pending_seconds > 0
    assert before[0].last_success is not None
    assert set(before[1]) == {"files"}
    assert before[2].keys() == {("dicom", "SCANNER")}
    assert store.from_the_future(60) == 0
    with store.write() as db:
        db.execute("UPDATE items SET received_at = ?, finished_at = ?", (ahead, ahead))
        db.execute(
            "UPDATE deliveries SET created_at = ?, delivered_at = iif(state = 'delivered', ?, NULL)", (ahead,) * 2
        )
    counts = store.counts()
    assert counts.oldest_pending_seconds == 0
    assert counts.last_success is None  # a time to come would hide that nothing is being screened
    assert [each.oldest_seconds for each in store.waiting_deliveries()] == [0]
    assert (store.last_deliveries(), store.last_received()) == ({}, {})
    assert store.from_the_future(60) == 2


KILLED = """
import sys
from pathlib import Path
from store_steps import receive
from edge_app.store.store import Store
store = Store(Path(sys.argv[1]))
n = 0
while True:
    receive(store, f"{sys.argv[2]} {n}".encode(), f"1.{sys.argv[2]}.{n}")
    print(n, flush=True)
    n += 1
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    """A process that receives is killed at full speed, again and again; what it printed must be there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    acknowledged = 0
    for life in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / "data", str(life)], stdout=subprocess.PIPE, env=environment
        )
        for line in process.stdout:
            acknowledged += 1
            if int(line) >= 5 + 7 * life:
                break
        process.kill()
        acknowledged += len(process.communicate()[0].splitlines())
    assert acknowledged >= 6 + 13
    store = Store(tmp_path / "data")
    store.check()
    store.recover()
    items = store.items(limit=10_000)
    assert acknowledged <= len(items) <= acknowledged + 2  # each life may have had one more on its way
    assert all(store.object_path(item).stat().st_size == item.bytes for item in items)
    assert len(store.orphans()) <= 2


class Life(RuleBasedStateMachine):
    """Senders, workers, crashes, restarts, people and retention in any order, against a model of what must hold."""

    claims = Values("claims")

    def __init__(self):
        super().__init__()
        fast = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=fast if fast.is_dir() else None))
        self.store = Store(self.folder)
        self.acknowledged: dict[tuple[str, bytes], int] = {}
        self.finished: Counter[int] = Counter()  # results per item
        self.allowed: Counter[int] = Counter()  # lives per item: it may be screened once in each

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(uid=st.sampled_from(["1.1", "1.2"]), contents=st.sampled_from([b"a", b"b", b"c"]))
    def receive(self, uid, contents):
        item, new = receive(self.store, contents, uid)
        known = self.acknowledged.get((uid, contents))
        assert known in (None, item.id)
        if known is None:
            assert new
            self.acknowledged[uid, contents] = item.id
        self.allowed[item.id] += new

    @rule(target=claims)
    def claim(self):
        return self.store.claim()

    @rule(item=claims, late=st.booleans())
    def finish(self, item, late):
        """In time, or (as its claim stays in the bundle) long after another attempt has begun."""
        if item is not None:
            try:
                self.store.finish(item.id, make_record(score=0.1), [("pacs", "sr")], item.attempts)
            except Stale:
                return
            self.finished[item.id] += 1

    @rule(item=consumes(claims), crashed=st.booleans())
    def release(self, item, crashed):
        if item is not None:
            try:
                self.store.release(item.id, "reason", crashed, attempt=item.attempts)
            except Stale:
                return

    @rule(item=consumes(claims))
    def quarantine(self, item):
        if item is not None:
            try:
                self.store.quarantine(item.id, "reason", attempt=item.attempts)
            except Stale:
                return

    @rule()
    def retry(self):
        for item in self.store.items("quarantined"):
            self.store.retry(item.id, "anna")

    @rule()
    def restart(self):
        self.store.close()
        self.store = Store(self.folder)
        self.store.recover()
        assert self.store.items("screening") == []

    @rule()
    def deliver(self):
        while (delivery := self.store.next_delivery()) is not None:
            self.store.delivered(delivery.id)

    @rule()
    def expire(self):
        self.store.expire(datetime.now(timezone.utc) + timedelta(days=1))

    @invariant()
    def nothing_is_lost(self):
        for (_, contents), number in self.acknowledged.items():
            item = self.store.item(number)
            assert item is not None
            if item.state != "expired":
                assert self.store.object_path(item).read_bytes() == contents
        assert rows(self.store, "items") == len(self.acknowledged)

    @invariant()
    def nothing_has_two_results(self):
        for number in self.acknowledged.values():
            assert self.finished[number] <= self.allowed[number]
            done = self.store.item(number).state in ("done", "expired")
            assert done == (self.finished[number] == self.allowed[number])
        states = self.store.counts().items
        assert rows(self.store, "records") == states["done"]
        assert rows(self.store, "deliveries") == states["done"]


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=20, stateful_step_count=25, suppress_health_check=list(HealthCheck))
