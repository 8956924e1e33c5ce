-- +goose Up

-- Clients that no administrator registered: how each came to be known, and what
-- a person who agreed was shown.
ALTER TABLE client ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE client ADD COLUMN grp TEXT NOT NULL DEFAULT '';
ALTER TABLE client ADD COLUMN digest TEXT NOT NULL DEFAULT '';
CREATE INDEX client_grp ON client (source, grp);
ALTER TABLE consent ADD COLUMN digest TEXT NOT NULL DEFAULT '';

-- What administrators say of them.
CREATE TABLE client_openness (
	one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE client_rule (
	source TEXT NOT NULL,
	grp    TEXT NOT NULL,
	trust  TEXT NOT NULL,
	name   TEXT NOT NULL,
	at     INTEGER NOT NULL,
	PRIMARY KEY (source, grp)
) STRICT, WITHOUT ROWID;

CREATE TABLE client_document (
	client_id TEXT NOT NULL PRIMARY KEY,
	body      TEXT NOT NULL,
	at        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
