-- +goose Up

-- Versions of the policies: immutable, the highest in force; none is the default
-- set of the program. author is the person who published, '' the operator of the
-- host; restores is the version that was put back, -1 if none.
CREATE TABLE ruleset (
	n            INTEGER NOT NULL PRIMARY KEY,
	hash         TEXT    NOT NULL,
	source       TEXT    NOT NULL,
	author       TEXT    NOT NULL,
	note         TEXT    NOT NULL,
	restores     INTEGER NOT NULL,
	record_id    TEXT    NOT NULL,
	published_at INTEGER NOT NULL
) STRICT;
