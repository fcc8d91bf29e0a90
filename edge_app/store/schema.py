"""The tables of the box's data base, and how an older data base is brought up to date.

`PRAGMA user_version` counts the migrations a data base has had. A release adds migrations at the end and never changes
one that was released.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edge_app.store.durable import move_durably, temporary_file

__all__ = ["MIGRATIONS", "backup_path", "copy_database", "migrate", "version_of"]

MIGRATIONS = (
    """
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('dicom', 'folder', 'upload')),
    origin TEXT NOT NULL,
    sop_instance_uid TEXT,
    sop_class_uid TEXT,
    study_uid TEXT,
    sha256 TEXT NOT NULL,
    extension TEXT NOT NULL,
    file_name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'screening', 'done', 'quarantined', 'expired')),
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    started_at TEXT,
    finished_at TEXT
);
CREATE UNIQUE INDEX items_network ON items (sop_instance_uid, sha256) WHERE source = 'dicom';
CREATE UNIQUE INDEX items_contents ON items (sha256) WHERE source <> 'dicom';
CREATE INDEX items_state ON items (state, crashes, id);
CREATE INDEX items_sha256 ON items (sha256);
CREATE TABLE records (
    item_id INTEGER PRIMARY KEY REFERENCES items (id),
    revision INTEGER NOT NULL,
    record TEXT NOT NULL,
    outcome TEXT NOT NULL,
    rank INTEGER NOT NULL,
    patient_id TEXT,
    eye TEXT,
    study_date TEXT,
    study_uid TEXT,
    screened_at TEXT NOT NULL,
    score REAL
);
CREATE INDEX records_worklist ON records (rank, score DESC, screened_at DESC);
CREATE INDEX records_patient ON records (patient_id, study_date);
CREATE INDEX records_study ON records (study_uid);
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item_id INTEGER NOT NULL REFERENCES items (id),
    destination TEXT NOT NULL,
    kind TEXT NOT NULL,
    revision INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead', 'superseded')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT NOT NULL,
    last_error TEXT,
    created_at TEXT NOT NULL,
    delivered_at TEXT,
    UNIQUE (item_id, destination, kind, revision)
);
CREATE INDEX deliveries_due ON deliveries (state, next_attempt_at);
CREATE TABLE reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item_id INTEGER NOT NULL REFERENCES items (id),
    at TEXT NOT NULL,
    user TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('eye', 'agreement', 'note')),
    value TEXT NOT NULL
);
CREATE INDEX reviews_item ON reviews (item_id);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    item_id INTEGER,
    detail TEXT NOT NULL DEFAULT ''
);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE (ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN
    SELECT RAISE (ABORT, 'the audit trail is append-only');
END;
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL CHECK (role IN ('operator', 'clinician', 'admin')),
    password_hash TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE TABLE sessions (
    token_hash TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    seen_at TEXT NOT NULL
);
CREATE TABLE login_attempts (
    at TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL
);
CREATE INDEX login_attempts_at ON login_attempts (at);
CREATE TABLE seen_files (
    folder TEXT NOT NULL,
    path_sha256 TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    item_id INTEGER NOT NULL REFERENCES items (id),
    PRIMARY KEY (folder, path_sha256)
) WITHOUT ROWID;
CREATE INDEX seen_files_item ON seen_files (item_id);
CREATE TABLE changes (n INTEGER NOT NULL);
INSERT INTO changes VALUES (0);
"""
    + "".join(
        f"CREATE TRIGGER {table}_{event.lower()}_is_seen AFTER {event} ON {table} BEGIN\n"
        "    UPDATE changes SET n = n + 1;\nEND;\n"
        for table in ("items", "records", "deliveries", "reviews")
        for event in ("INSERT", "UPDATE", "DELETE")
    ),
    # Counted on beyond the removal of a record by age: a revision's number is part of its documents' identities.
    """
ALTER TABLE items ADD COLUMN revisions INTEGER NOT NULL DEFAULT 0;
UPDATE items SET revisions = coalesce((SELECT revision FROM records WHERE item_id = items.id), 0);
""",
    # An item is one picture of a received object, screened by one bundle. `object_id`: the item of its first picture.
    # `pictures`: how many there are, once it is known. `bundle`: the name of the bundle that screens it. `urgent`: a
    # person asked to send it now. `missing`: see `decision.GradedImage`; earlier releases saw one picture of an object.
    """
ALTER TABLE items ADD COLUMN object_id INTEGER REFERENCES items (id);
ALTER TABLE items ADD COLUMN frame INTEGER NOT NULL DEFAULT 1;
ALTER TABLE items ADD COLUMN pictures INTEGER;
ALTER TABLE items ADD COLUMN bundle TEXT NOT NULL DEFAULT '';
ALTER TABLE items ADD COLUMN closed_at TEXT;
UPDATE items SET object_id = id;
UPDATE items SET bundle = coalesce(
    (SELECT json_extract(record, '$.bundle_name') FROM records WHERE item_id = items.id), '');
DROP INDEX items_network;
DROP INDEX items_contents;
DROP INDEX items_state;
CREATE UNIQUE INDEX items_network ON items (sop_instance_uid, sha256, frame, bundle) WHERE source = 'dicom';
CREATE UNIQUE INDEX items_contents ON items (sha256, frame, bundle) WHERE source <> 'dicom';
CREATE INDEX items_state ON items (state, crashes, object_id, frame);
CREATE INDEX items_object ON items (object_id);
CREATE INDEX items_further ON items (object_id) WHERE frame > 1;
CREATE INDEX items_uncounted ON items (id) WHERE pictures IS NULL;
CREATE INDEX items_origin ON items (source, origin, received_at);
ALTER TABLE records ADD COLUMN patient_name TEXT;
ALTER TABLE records ADD COLUMN birth_date TEXT;
ALTER TABLE records ADD COLUMN sex TEXT;
ALTER TABLE records ADD COLUMN patient_id_issuer TEXT;
ALTER TABLE records ADD COLUMN accession_number TEXT;
ALTER TABLE records ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
CREATE INDEX audit_action ON audit (action);
ALTER TABLE deliveries ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (state, destination, next_attempt_at);
CREATE INDEX deliveries_urgent ON deliveries (state, destination, next_attempt_at) WHERE urgent;
CREATE INDEX audit_detail ON audit (action, detail, at) WHERE action = 'received and dropped';
CREATE TABLE own_results (sop_instance_uid TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE not_taken (
    folder TEXT NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    latest TEXT NOT NULL,
    PRIMARY KEY (folder, kind)
) WITHOUT ROWID;
""",
    # `uncertain` comes behind `refer` and before all others. An earlier release would not know it.
    """
UPDATE records SET rank = rank + 1 WHERE rank >= 1;
""",
    # What `health.drift` compares with the reference of a bundle; earlier releases measured no distance.
    """
ALTER TABLE records ADD COLUMN bundle_digest TEXT;
ALTER TABLE records ADD COLUMN distance REAL;
ALTER TABLE records ADD COLUMN quality TEXT;
CREATE INDEX records_bundle ON records (bundle_digest, item_id);
""",
)


def version_of(path: Path) -> int:
    """How many migrations a data base has had; 0 where there is none yet. Raises sqlite3.DatabaseError."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=30)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def backup_path(path: Path, version: int) -> Path:
    """Where the copy of a data base lies that was made before it was migrated from `version`."""
    return path.with_name(f"{path.stem}.schema{version}{path.suffix}")


def copy_database(path: Path, copy: Path) -> None:
    """A consistent, durable copy, also while others write; it has its name only when it is whole.

    Raises sqlite3.Error or OSError (a full disk, for one), and then leaves nothing.
    """
    with temporary_file(copy.parent) as file:
        with closing(sqlite3.connect(path, timeout=30)) as source, closing(sqlite3.connect(file.name)) as target:
            source.backup(target)
        move_durably(file, copy)


def migrate(db: sqlite3.Connection) -> None:
    """Applies the missing migrations, inside of the caller's transaction."""
    [version] = db.execute("PRAGMA user_version").fetchone()
    for migration in MIGRATIONS[version:]:
        for statement in _statements(migration):
            db.execute(statement)
    if version < len(MIGRATIONS):
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one, so that they can share a transaction."""
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
