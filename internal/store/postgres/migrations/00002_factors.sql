-- +goose Up

-- Ways to prove oneself that are a secret of the deployment's: password, TOTP.
-- What verifies one is sealed; the associated data name table, row, column and
-- version of the form.
CREATE TABLE factor (
	id              TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	person          TEXT COLLATE "C"    NOT NULL,
	kind            TEXT COLLATE "C"    NOT NULL,
	name            TEXT COLLATE "C"    NOT NULL,
	sealed          BYTEA    NOT NULL,
	form            BIGINT NOT NULL,
	step            BIGINT NOT NULL, -- of a one-time code: the last one accepted
	probation_until BIGINT,
	created_at      BIGINT NOT NULL,
	used_at         BIGINT
);
CREATE INDEX factor_person ON factor (person);

ALTER TABLE passkey ADD COLUMN probation_until BIGINT;

-- Which kinds people may use here; what has no row is as the release says.
CREATE TABLE factor_kind (
	kind    TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	allowed BIGINT NOT NULL
);

-- What was guessed lately, by what is guessed and from where: hashes, so that
-- nothing of what a stranger typed is kept.
CREATE TABLE attempt (
	bucket BYTEA    NOT NULL PRIMARY KEY,
	n      BIGINT NOT NULL, -- in the window that ends at until
	until  BIGINT NOT NULL,
	total  BIGINT NOT NULL, -- in a row: since the last that was right
	keep   BIGINT NOT NULL  -- forgotten after this
);
CREATE INDEX attempt_keep ON attempt (keep);
