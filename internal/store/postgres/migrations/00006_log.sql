-- +goose Up

-- The log's epochs (mechanisms E12). Rows below base belong to earlier ones; the
-- index of a record in its epoch's tree is its seq less base. Tiles of an epoch lie
-- at level + 64 x (epoch - 1), so that those of the first are where they were.
ALTER TABLE log_head ADD COLUMN epoch BIGINT NOT NULL DEFAULT 1;
ALTER TABLE log_head ADD COLUMN base BIGINT NOT NULL DEFAULT 0;
ALTER TABLE checkpoint ADD COLUMN epoch BIGINT NOT NULL DEFAULT 1;
CREATE INDEX checkpoint_epoch ON checkpoint (epoch, size);

-- Epochs after the first: the record that opened each, and the head of the one
-- before as it was found then.
CREATE TABLE log_epoch (
	epoch      BIGINT NOT NULL PRIMARY KEY,
	base       BIGINT NOT NULL,
	origin     TEXT COLLATE "C"    NOT NULL,
	record_id  TEXT COLLATE "C"    NOT NULL,
	opened_at  BIGINT NOT NULL
);

-- Processes that write records (mechanisms E3).
CREATE TABLE log_writer (
	id        BYTEA    NOT NULL PRIMARY KEY,
	alive_at  BIGINT NOT NULL,
	closed_at BIGINT,
	lost_at   BIGINT
);

-- What witnesses said of checkpoints (C2SP tlog-cosignature), a signature line
-- each. at is the time that the witness put into it.
CREATE TABLE cosignature (
	epoch   BIGINT NOT NULL,
	size    BIGINT NOT NULL,
	witness TEXT COLLATE "C"    NOT NULL,
	at      BIGINT NOT NULL,
	line    TEXT COLLATE "C"    NOT NULL,
	PRIMARY KEY (epoch, size, witness)
);

-- How many days records of a class are kept in the database; 0: for ever.
CREATE TABLE retention (
	class TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	days  BIGINT NOT NULL
);

-- What must not be pruned or erased: everything, or what concerns a person.
CREATE TABLE legal_hold (
	id          TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	person      TEXT COLLATE "C"    NOT NULL,
	pseudonym   BYTEA,
	reason      TEXT COLLATE "C"    NOT NULL,
	placed_at   BIGINT NOT NULL,
	released_at BIGINT
);

-- Ranges of an epoch's tree, [low, high), out of which records were taken, and the
-- record that says so.
CREATE TABLE log_pruned (
	record_id TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	epoch     BIGINT NOT NULL,
	low       BIGINT NOT NULL,
	high      BIGINT NOT NULL
);
