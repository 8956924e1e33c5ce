-- +goose Up

-- The log's epochs (mechanisms E12). Rows below base belong to earlier ones; the
-- index of a record in its epoch's tree is its seq less base. Tiles of an epoch lie
-- at level + 64 x (epoch - 1), so that those of the first are where they were.
ALTER TABLE log_head ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1;
ALTER TABLE log_head ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
ALTER TABLE checkpoint ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1;
CREATE INDEX checkpoint_epoch ON checkpoint (epoch, size);

-- Epochs after the first: the record that opened each, and the head of the one
-- before as it was found then.
CREATE TABLE log_epoch (
	epoch      INTEGER NOT NULL PRIMARY KEY,
	base       INTEGER NOT NULL,
	origin     TEXT    NOT NULL,
	record_id  TEXT    NOT NULL,
	opened_at  INTEGER NOT NULL
) STRICT;

-- Processes that write records (mechanisms E3).
CREATE TABLE log_writer (
	id        BLOB    NOT NULL PRIMARY KEY,
	alive_at  INTEGER NOT NULL,
	closed_at INTEGER,
	lost_at   INTEGER
) STRICT;

-- What witnesses said of checkpoints (C2SP tlog-cosignature), a signature line
-- each. at is the time that the witness put into it.
CREATE TABLE cosignature (
	epoch   INTEGER NOT NULL,
	size    INTEGER NOT NULL,
	witness TEXT    NOT NULL,
	at      INTEGER NOT NULL,
	line    TEXT    NOT NULL,
	PRIMARY KEY (epoch, size, witness)
) STRICT;

-- How many days records of a class are kept in the database; 0: for ever.
CREATE TABLE retention (
	class TEXT    NOT NULL PRIMARY KEY,
	days  INTEGER NOT NULL
) STRICT;

-- What must not be pruned or erased: everything, or what concerns a person.
CREATE TABLE legal_hold (
	id          TEXT    NOT NULL PRIMARY KEY,
	person      TEXT    NOT NULL,
	pseudonym   BLOB,
	reason      TEXT    NOT NULL,
	placed_at   INTEGER NOT NULL,
	released_at INTEGER
) STRICT;

-- Ranges of an epoch's tree, [low, high), out of which records were taken, and the
-- record that says so.
CREATE TABLE log_pruned (
	record_id TEXT    NOT NULL PRIMARY KEY,
	epoch     INTEGER NOT NULL,
	low       INTEGER NOT NULL,
	high      INTEGER NOT NULL
) STRICT;
