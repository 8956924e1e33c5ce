-- +goose Up

-- Ways to prove oneself that are a secret of the deployment's: password, TOTP.
-- What verifies one is sealed; the associated data name table, row, column and
-- version of the form.
CREATE TABLE factor (
	id              TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	person          TEXT    NOT NULL,
	kind            TEXT    NOT NULL,
	name            TEXT    NOT NULL,
	sealed          BLOB    NOT NULL,
	form            INTEGER NOT NULL,
	step            INTEGER NOT NULL, -- of a one-time code: the last one accepted
	probation_until INTEGER,
	created_at      INTEGER NOT NULL,
	used_at         INTEGER
) STRICT;
CREATE INDEX factor_person ON factor (person);

ALTER TABLE passkey ADD COLUMN probation_until INTEGER;

-- Which kinds people may use here; what has no row is as the release says.
CREATE TABLE factor_kind (
	kind    TEXT    NOT NULL PRIMARY KEY,
	allowed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was guessed lately, by what is guessed and from where: hashes, so that
-- nothing of what a stranger typed is kept.
CREATE TABLE attempt (
	bucket BLOB    NOT NULL PRIMARY KEY,
	n      INTEGER NOT NULL, -- in the window that ends at until
	until  INTEGER NOT NULL,
	total  INTEGER NOT NULL, -- in a row: since the last that was right
	keep   INTEGER NOT NULL  -- forgotten after this
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_keep ON attempt (keep);
