PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    item_id INTEGER,
    detail TEXT NOT NULL DEFAULT ''
);
INSERT INTO "audit" VALUES(1,'2026-11-28T20:18:18.776+00:00','folder','received',1,'camera');
INSERT INTO "audit" VALUES(2,'2026-11-28T20:18:18.777+00:00','folder','received',2,'camera');
INSERT INTO "audit" VALUES(3,'2026-11-28T20:18:18.779+00:00','folder','received',3,'camera');
INSERT INTO "audit" VALUES(4,'2026-11-28T20:18:18.784+00:00','dicom','received',4,'SCANNER');
INSERT INTO "audit" VALUES(5,'2026-11-28T20:18:19.049+00:00','worker','screened',1,'refer, revision 1');
INSERT INTO "audit" VALUES(6,'2026-11-28T20:18:19.116+00:00','worker','screened',2,'refer, revision 1');
INSERT INTO "audit" VALUES(7,'2026-11-28T20:18:19.145+00:00','worker','screened',3,'not_analysed, revision 1');
INSERT INTO "audit" VALUES(8,'2026-11-28T20:18:19.172+00:00','worker','screened',4,'refer, revision 1');
INSERT INTO "audit" VALUES(9,'2026-11-28T20:18:19.174+00:00','anna','reviewed',1,'agreement');
INSERT INTO "audit" VALUES(10,'2026-11-28T20:18:19.176+00:00','folder','received',5,'camera');
CREATE TABLE changes (n INTEGER NOT NULL);
INSERT INTO "changes" VALUES(35);
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
INSERT INTO "deliveries" VALUES(1,1,'files','json',1,'delivered',1,'2026-11-28T20:18:19.048+00:00',NULL,'2026-11-28T20:18:19.048+00:00','2026-11-28T20:18:19.174+00:00');
INSERT INTO "deliveries" VALUES(2,1,'files','csv',1,'pending',0,'2026-11-28T20:18:19.048+00:00',NULL,'2026-11-28T20:18:19.048+00:00',NULL);
INSERT INTO "deliveries" VALUES(3,2,'files','json',1,'pending',0,'2026-11-28T20:18:19.116+00:00',NULL,'2026-11-28T20:18:19.116+00:00',NULL);
INSERT INTO "deliveries" VALUES(4,2,'files','csv',1,'pending',0,'2026-11-28T20:18:19.116+00:00',NULL,'2026-11-28T20:18:19.116+00:00',NULL);
INSERT INTO "deliveries" VALUES(5,3,'files','json',1,'pending',0,'2026-11-28T20:18:19.145+00:00',NULL,'2026-11-28T20:18:19.145+00:00',NULL);
INSERT INTO "deliveries" VALUES(6,3,'files','csv',1,'pending',0,'2026-11-28T20:18:19.145+00:00',NULL,'2026-11-28T20:18:19.145+00:00',NULL);
INSERT INTO "deliveries" VALUES(7,4,'files','json',1,'pending',0,'2026-11-28T20:18:19.172+00:00',NULL,'2026-11-28T20:18:19.172+00:00',NULL);
INSERT INTO "deliveries" VALUES(8,4,'files','csv',1,'pending',0,'2026-11-28T20:18:19.172+00:00',NULL,'2026-11-28T20:18:19.172+00:00',NULL);
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
, revisions INTEGER NOT NULL DEFAULT 0);
INSERT INTO "items" VALUES(1,'2026-11-28T20:18:18.775+00:00','folder','camera',NULL,NULL,NULL,'66be978cede0ad064c88ae5bf9907d84c3a4b12f988ce0d896fa37b277f05a44','bin','PHANTOM-0003_OD_2026-03-02_1.jpg',158160,'done',NULL,1,0,'2026-11-28T20:18:18.927+00:00','2026-11-28T20:18:19.048+00:00',1);
INSERT INTO "items" VALUES(2,'2026-11-28T20:18:18.777+00:00','folder','camera',NULL,NULL,NULL,'ecc4cdaa02d5a33de46cd1682782c5642128de323b4822038246225f190aef61','bin','PHANTOM-0003_OS_2026-03-02_1.jpg',82766,'done',NULL,1,0,'2026-11-28T20:18:19.021+00:00','2026-11-28T20:18:19.116+00:00',1);
INSERT INTO "items" VALUES(3,'2026-11-28T20:18:18.779+00:00','folder','camera',NULL,NULL,NULL,'c11a432729e5efa4d4fdc627f9c57052ed0c2c88d441c30fd07ba425452c8601','bin','PHANTOM-0007_OD_2026-03-02_1.jpg',143501,'done',NULL,1,0,'2026-11-28T20:18:19.103+00:00','2026-11-28T20:18:19.144+00:00',1);
INSERT INTO "items" VALUES(4,'2026-11-28T20:18:18.783+00:00','dicom','SCANNER','1.2.826.0.1.3680043.8.498.36968308738054943131806583711928668962','1.2.840.10008.5.1.4.1.1.77.1.5.1','1.2.826.0.1.3680043.8.498.28640159480522972635838264038724415944','311f64bdae4ac8079ef1be4bcd2f21e3d2a5df16f7c7dd0e27ee8fbf3f45376d','dcm','',360696,'done',NULL,1,0,'2026-11-28T20:18:19.139+00:00','2026-11-28T20:18:19.172+00:00',1);
INSERT INTO "items" VALUES(5,'2026-11-28T20:18:19.176+00:00','folder','camera',NULL,NULL,NULL,'e445e2f7e93c15b35819fd62046069b1ec2a1f202616bec4774b199687b70a8f','bin','PHANTOM-0009_OD_2026-03-02_1.jpg',57019,'pending',NULL,0,0,NULL,NULL,0);
CREATE TABLE login_attempts (
    at TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL
);
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
INSERT INTO "records" VALUES(1,1,'{"file": "PHANTOM-0003_OD_2026-03-02_1.jpg", "folder": "camera", "sha256": "66be978cede0ad064c88ae5bf9907d84c3a4b12f988ce0d896fa37b277f05a44", "outcome": "refer", "reasons": ["Posterior staphyloma: 1.00 (threshold 0.81)"], "bundle_name": "realmnet-demo", "bundle_version": "3", "bundle_digest": "612f8248074e707af6de55c07095fe12a122ae44e628f6fdb56f4f83c290206e", "artifact": "int8", "model_sha256": "d8602fe9c1154d6d8eb848beeffdba0ca9bf2464787faf5386aa1b818437f817", "spec_hash": "c64612ccb3fa98ea", "screened_at": "2026-11-28T20:18:18+00:00", "triggered": ["S1"], "warnings": [], "probabilities": {"S0": 0.00025701106642372906, "S1": 0.9999958276748657, "A0": 0.0010092114098370075, "A1": 0.9241740107536316, "A2": 0.01890907995402813, "A3": 0.15063293278217316, "A4": 0.02986612357199192}, "thresholds": {"S1": 0.8104934096336365, "A2": 0.9006601572036743, "A3": 0.3327268362045288, "A4": 0.37402480840682983}, "label_names": {"S0": "No staphyloma", "S1": "Posterior staphyloma", "A0": "No myopic lesion", "A1": "Tessellation only", "A2": "Diffuse atrophy", "A3": "Patchy atrophy", "A4": "Macular atrophy"}, "evidence": "S1", "patient_id": "PHANTOM-0003", "eye": "OD", "eye_source": "file name", "study_date": "2026-03-02", "quality": {"width": 1300.0, "height": 1024.0, "aspect": 1.26953125, "brightness": 73.88804851419617, "saturation": 0.9527111571954678, "green_ratio": 1.1770411420208235, "blue_ratio": 0.046096692443738534, "greener": 0.7669723317474954, "overexposed": 0.0003846741300990536, "visible": 0.9856490621915103, "roundness": 0.9296477806352134, "sharpness": 0.8853577108908434, "fine_contrast": 17.09932237860004}, "timings_ms": {"decode": 26.17, "quality": 39.12, "preprocess": 8.52, "inference": 13.56, "total": 89.06}, "source": {"format": "JPEG", "width": 1300, "height": 1024}, "overlay": null, "error": null, "duplicate_of": null, "schema": 1}','refer',0,'PHANTOM-0003','OD','2026-03-02',NULL,'2026-11-28T20:18:18+00:00',1.89502418041229248046e-01);
INSERT INTO "records" VALUES(2,1,'{"file": "PHANTOM-0003_OS_2026-03-02_1.jpg", "folder": "camera", "sha256": "ecc4cdaa02d5a33de46cd1682782c5642128de323b4822038246225f190aef61", "outcome": "refer", "reasons": ["Posterior staphyloma: 1.00 (threshold 0.81)", "Diffuse atrophy: 1.00 (threshold 0.90)"], "bundle_name": "realmnet-demo", "bundle_version": "3", "bundle_digest": "612f8248074e707af6de55c07095fe12a122ae44e628f6fdb56f4f83c290206e", "artifact": "int8", "model_sha256": "d8602fe9c1154d6d8eb848beeffdba0ca9bf2464787faf5386aa1b818437f817", "spec_hash": "c64612ccb3fa98ea", "screened_at": "2026-11-28T20:18:19+00:00", "triggered": ["S1", "A2"], "warnings": [], "probabilities": {"S0": 0.0017905214335769415, "S1": 0.9999480843544006, "A0": 0.0002697146264836192, "A1": 0.024086296558380127, "A2": 0.9964013695716858, "A3": 0.07439625263214111, "A4": 0.015955213457345963}, "thresholds": {"S1": 0.8104934096336365, "A2": 0.9006601572036743, "A3": 0.3327268362045288, "A4": 0.37402480840682983}, "label_names": {"S0": "No staphyloma", "S1": "Posterior staphyloma", "A0": "No myopic lesion", "A1": "Tessellation only", "A2": "Diffuse atrophy", "A3": "Patchy atrophy", "A4": "Macular atrophy"}, "evidence": "S1", "patient_id": "PHANTOM-0003", "eye": "OS", "eye_source": "file name", "study_date": "2026-03-02", "quality": {"width": 1000.0, "height": 1000.0, "aspect": 1.0, "brightness": 70.67890848912926, "saturation": 0.9541509779748835, "green_ratio": 0.922659521503381, "blue_ratio": 0.04796024845987996, "greener": 0.38126131743995006, "overexposed": 0.0, "visible": 0.7948244710819266, "roundness": 0.9453127733778125, "sharpness": 0.792497097584654, "fine_contrast": 12.664874914343518}, "timings_ms": {"decode": 18.29, "quality": 35.26, "preprocess": 6.8, "inference": 14.58, "total": 75.55}, "source": {"format": "JPEG", "width": 1000, "height": 1000}, "overlay": null, "error": null, "duplicate_of": null, "schema": 1}','refer',0,'PHANTOM-0003','OS','2026-03-02',NULL,'2026-11-28T20:18:19+00:00',1.89454674720764160156e-01);
INSERT INTO "records" VALUES(3,1,'{"file": "PHANTOM-0007_OD_2026-03-02_1.jpg", "folder": "camera", "sha256": "c11a432729e5efa4d4fdc627f9c57052ed0c2c88d441c30fd07ba425452c8601", "outcome": "not_analysed", "reasons": ["A grey picture (angiogram, autofluorescence, infrared or single channel), not a colour one: saturation 0.00 (at least 0.15)."], "bundle_name": "realmnet-demo", "bundle_version": "3", "bundle_digest": "612f8248074e707af6de55c07095fe12a122ae44e628f6fdb56f4f83c290206e", "artifact": "int8", "model_sha256": "d8602fe9c1154d6d8eb848beeffdba0ca9bf2464787faf5386aa1b818437f817", "spec_hash": "c64612ccb3fa98ea", "screened_at": "2026-11-28T20:18:19+00:00", "triggered": [], "warnings": [], "probabilities": null, "thresholds": null, "label_names": null, "evidence": null, "patient_id": "PHANTOM-0007", "eye": "OD", "eye_source": "file name", "study_date": "2026-03-02", "quality": {"width": 1300.0, "height": 1024.0, "aspect": 1.26953125, "brightness": 37.66247290963157, "saturation": 0.0, "green_ratio": 1.0, "blue_ratio": 1.0, "greener": 0.0, "overexposed": 0.0018396250189002571, "visible": 0.9672877591312932, "roundness": 0.9256011215852363, "sharpness": 1.1014052934389744, "fine_contrast": 51.27429805411994}, "timings_ms": {"decode": 6.94, "quality": 18.78, "total": 26.1}, "source": {"format": "JPEG", "width": 1300, "height": 1024}, "overlay": null, "error": null, "duplicate_of": null, "schema": 1}','not_analysed',2,'PHANTOM-0007','OD','2026-03-02',NULL,'2026-11-28T20:18:19+00:00',NULL);
INSERT INTO "records" VALUES(4,1,'{"file": "1.2.826.0.1.3680043.8.498.36968308738054943131806583711928668962.dcm", "folder": "SCANNER", "sha256": "311f64bdae4ac8079ef1be4bcd2f21e3d2a5df16f7c7dd0e27ee8fbf3f45376d", "outcome": "refer", "reasons": ["Patchy atrophy: 0.81 (threshold 0.33)", "Posterior staphyloma: 0.99 (threshold 0.81)", "Macular atrophy: 0.40 (threshold 0.37)"], "bundle_name": "realmnet-demo", "bundle_version": "3", "bundle_digest": "612f8248074e707af6de55c07095fe12a122ae44e628f6fdb56f4f83c290206e", "artifact": "int8", "model_sha256": "d8602fe9c1154d6d8eb848beeffdba0ca9bf2464787faf5386aa1b818437f817", "spec_hash": "c64612ccb3fa98ea", "screened_at": "2026-11-28T20:18:19+00:00", "triggered": ["A3", "S1", "A4"], "warnings": [], "probabilities": {"S0": 0.01523538026958704, "S1": 0.9910223484039307, "A0": 0.007469115778803825, "A1": 0.08733557164669037, "A2": 0.013820129446685314, "A3": 0.806108832359314, "A4": 0.3971700072288513}, "thresholds": {"S1": 0.8104934096336365, "A2": 0.9006601572036743, "A3": 0.3327268362045288, "A4": 0.37402480840682983}, "label_names": {"S0": "No staphyloma", "S1": "Posterior staphyloma", "A0": "No myopic lesion", "A1": "Tessellation only", "A2": "Diffuse atrophy", "A3": "Patchy atrophy", "A4": "Macular atrophy"}, "evidence": "A3", "patient_id": "PHANTOM-0004", "eye": "OD", "eye_source": "dicom", "study_date": "2026-03-02", "quality": {"width": 390.0, "height": 307.0, "aspect": 1.270358306188925, "brightness": 49.4117815507972, "saturation": 0.9278670689674551, "green_ratio": 0.9923402569660532, "blue_ratio": 0.07599028436613241, "greener": 0.5093668594232085, "overexposed": 0.0, "visible": 0.9982563208369659, "roundness": 0.941937224570555, "sharpness": 1.000778168812277, "fine_contrast": 23.890908022174397}, "timings_ms": {"decode": 6.15, "quality": 4.57, "preprocess": 1.77, "inference": 13.68, "total": 26.79}, "source": {"format": "DICOM", "width": 390, "height": 307, "manufacturer": "OPTOS", "modality": "OP", "image_type": ["ORIGINAL", "PRIMARY", "", "RG"], "series_description": "Synthetic RG", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.77.1.5.1", "sop_instance_uid": "1.2.826.0.1.3680043.8.498.36968308738054943131806583711928668962", "study_instance_uid": "1.2.826.0.1.3680043.8.498.28640159480522972635838264038724415944", "photometric_interpretation": "RGB", "transfer_syntax_uid": "1.2.840.10008.1.2.1"}, "overlay": null, "error": null, "duplicate_of": null, "schema": 1}','refer',0,'PHANTOM-0004','OD','2026-03-02','1.2.826.0.1.3680043.8.498.28640159480522972635838264038724415944','2026-11-28T20:18:19+00:00',4.7338199615478515625e-01);
CREATE TABLE reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item_id INTEGER NOT NULL REFERENCES items (id),
    at TEXT NOT NULL,
    user TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('eye', 'agreement', 'note')),
    value TEXT NOT NULL
);
INSERT INTO "reviews" VALUES(1,1,'2026-11-28T20:18:19.174+00:00','anna','agreement','agree');
CREATE TABLE seen_files (
    folder TEXT NOT NULL,
    path_sha256 TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    item_id INTEGER NOT NULL REFERENCES items (id),
    PRIMARY KEY (folder, path_sha256)
) WITHOUT ROWID;
INSERT INTO "seen_files" VALUES('share','f5ff9ce66af6bd579abcd4a46cf6cf0ff071e94209f01182172a27276560e8eb','PHANTOM-0003_OD_2026-03-02_1.jpg',1,2,1);
CREATE TABLE sessions (
    token_hash TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    seen_at TEXT NOT NULL
);
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL CHECK (role IN ('operator', 'clinician', 'admin')),
    password_hash TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE UNIQUE INDEX items_network ON items (sop_instance_uid, sha256) WHERE source = 'dicom';
CREATE UNIQUE INDEX items_contents ON items (sha256) WHERE source <> 'dicom';
CREATE INDEX items_state ON items (state, crashes, id);
CREATE INDEX items_sha256 ON items (sha256);
CREATE INDEX records_worklist ON records (rank, score DESC, screened_at DESC);
CREATE INDEX records_patient ON records (patient_id, study_date);
CREATE INDEX records_study ON records (study_uid);
CREATE INDEX deliveries_due ON deliveries (state, next_attempt_at);
CREATE INDEX reviews_item ON reviews (item_id);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE (ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN
    SELECT RAISE (ABORT, 'the audit trail is append-only');
END;
CREATE INDEX login_attempts_at ON login_attempts (at);
CREATE INDEX seen_files_item ON seen_files (item_id);
CREATE TRIGGER items_insert_is_seen AFTER INSERT ON items BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER items_update_is_seen AFTER UPDATE ON items BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER items_delete_is_seen AFTER DELETE ON items BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER records_insert_is_seen AFTER INSERT ON records BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER records_update_is_seen AFTER UPDATE ON records BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER records_delete_is_seen AFTER DELETE ON records BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER deliveries_insert_is_seen AFTER INSERT ON deliveries BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER deliveries_update_is_seen AFTER UPDATE ON deliveries BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER deliveries_delete_is_seen AFTER DELETE ON deliveries BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER reviews_insert_is_seen AFTER INSERT ON reviews BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER reviews_update_is_seen AFTER UPDATE ON reviews BEGIN
    UPDATE changes SET n = n + 1;
END;
CREATE TRIGGER reviews_delete_is_seen AFTER DELETE ON reviews BEGIN
    UPDATE changes SET n = n + 1;
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('items',5);
INSERT INTO "sqlite_sequence" VALUES('audit',10);
INSERT INTO "sqlite_sequence" VALUES('deliveries',8);
INSERT INTO "sqlite_sequence" VALUES('reviews',1);
COMMIT;
