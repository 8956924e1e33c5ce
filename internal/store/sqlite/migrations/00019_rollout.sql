-- +goose Up

-- Versions of the policies on their way into force, wave by wave. Source and hash
-- never change; at most one is open. base is the version in force that it follows,
-- version what it became, 0 if nothing.
CREATE TABLE rollout (
	n          INTEGER NOT NULL PRIMARY KEY,
	hash       TEXT    NOT NULL,
	source     TEXT    NOT NULL,
	author     TEXT    NOT NULL,
	note       TEXT    NOT NULL,
	base       INTEGER NOT NULL,
	waves      TEXT    NOT NULL,
	revision   INTEGER NOT NULL,
	state      TEXT    NOT NULL,
	version    INTEGER NOT NULL,
	record_id  TEXT    NOT NULL,
	started_at INTEGER NOT NULL,
	ended_at   INTEGER
) STRICT;

-- Which records say that a rollout cost somebody a prompt or a refusal: who is the
-- pseudonym of the first person that the record concerns.
CREATE TABLE audit_rollout (
	rollout   INTEGER NOT NULL,
	record_id TEXT    NOT NULL,
	wave      INTEGER NOT NULL,
	at        INTEGER NOT NULL,
	who       BLOB    NOT NULL,
	denied    INTEGER NOT NULL,
	rule      TEXT    NOT NULL,
	PRIMARY KEY (rollout, record_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_rollout_at ON audit_rollout (rollout, wave, at);
