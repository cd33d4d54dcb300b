//! Tables. The journal and the lease are kept for ever; everything in `PROJECTIONS` may be dropped and made
//! again from the journal.

/// Layout of the database; a newer one is refused, an older one gets its projections anew. 2: `port_reading`;
/// 3: `top_up`; 4: why a reservation ended; 5: `learnt_access`.
pub(crate) const LAYOUT: i64 = 5;

/// "TOLL", so that `file` and people know what it is.
pub(crate) const APPLICATION_ID: &str = "1414483020";

pub(crate) const KEPT: &str = "
CREATE TABLE IF NOT EXISTS journal (
    seq     INTEGER PRIMARY KEY,
    epoch   INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    due     INTEGER,
    kind    INTEGER NOT NULL,
    version INTEGER NOT NULL,
    bytes   BLOB    NOT NULL,
    crc     INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS lease (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    epoch  INTEGER NOT NULL,
    holder TEXT    NOT NULL
) STRICT;
INSERT OR IGNORE INTO lease (id, epoch, holder) VALUES (1, 0, '');
CREATE TABLE IF NOT EXISTS probe (
    id   INTEGER PRIMARY KEY,
    room BLOB NOT NULL
) STRICT;
";

pub(crate) const PROJECTIONS: &str = "
CREATE TABLE IF NOT EXISTS projected (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO projected (id, seq) VALUES (1, 0);
CREATE TABLE IF NOT EXISTS reservation (
    id       INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    ended    INTEGER,
    doc      BLOB    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS reservation_by_customer ON reservation (customer, id);
CREATE INDEX IF NOT EXISTS reservation_by_state ON reservation (state, id);
CREATE TABLE IF NOT EXISTS usage (
    reservation INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    doc         BLOB    NOT NULL,
    PRIMARY KEY (reservation, seq, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS port_reading (
    enforcement_point TEXT    NOT NULL,
    port              TEXT    NOT NULL,
    direction         TEXT    NOT NULL,
    slot              INTEGER NOT NULL,
    floor_bps         INTEGER,
    measured_bps      INTEGER,
    kept              INTEGER,
    doc               BLOB    NOT NULL,
    PRIMARY KEY (enforcement_point, port, direction, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    seq         INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    reservation INTEGER NOT NULL,
    customer    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    detail      TEXT,
    PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_by_reservation ON event (reservation, seq, n);
CREATE TABLE IF NOT EXISTS interval (
    reservation INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    reason      TEXT,
    PRIMARY KEY (reservation, seq, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entry (
    seq      INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    customer INTEGER,
    kind     TEXT    NOT NULL,
    debit    TEXT    NOT NULL,
    credit   TEXT    NOT NULL,
    amount   INTEGER NOT NULL,
    currency TEXT    NOT NULL,
    doc      BLOB    NOT NULL,
    PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_by_customer ON entry (customer, seq, n);
CREATE TABLE IF NOT EXISTS top_up (
    customer INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    amount   INTEGER NOT NULL,
    currency TEXT    NOT NULL,
    actor    TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    PRIMARY KEY (customer, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account (
    kind     TEXT    NOT NULL,
    owner    INTEGER NOT NULL,
    currency TEXT    NOT NULL,
    balance  INTEGER NOT NULL,
    held     INTEGER NOT NULL,
    PRIMARY KEY (kind, owner, currency)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS config (
    kind     TEXT    NOT NULL,
    id       INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    removed  INTEGER NOT NULL,
    doc      BLOB    NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS learnt_access (
    family            INTEGER NOT NULL,
    subscriber        INTEGER NOT NULL,
    enforcement_point TEXT    NOT NULL,
    apn               TEXT    NOT NULL,
    attached          INTEGER NOT NULL,
    PRIMARY KEY (family, subscriber)
) STRICT, WITHOUT ROWID;
";

/// Every projection table with the columns that order its rows; `rebuild-projections` empties them.
pub(crate) const TABLES: [(&str, &str); 11] = [
    ("projected", "id"),
    ("reservation", "id"),
    ("usage", "reservation, seq, n"),
    ("port_reading", "enforcement_point, port, direction, slot"),
    ("event", "seq, n"),
    ("interval", "reservation, seq, n"),
    ("entry", "seq, n"),
    ("top_up", "customer, seq"),
    ("account", "kind, owner, currency"),
    ("config", "kind, id"),
    ("learnt_access", "family, subscriber"),
];
