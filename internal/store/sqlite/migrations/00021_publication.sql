-- +goose Up

-- Sets of policies that somebody wants in force, which a person has to sign. waves is
-- null where one comes into force at once, plan what they are hashed to; signer and
-- signature are '' until it is signed, became is 0 until it was carried out.
CREATE TABLE publication (
	id          TEXT    NOT NULL PRIMARY KEY,
	after_n     INTEGER NOT NULL,
	hash        TEXT    NOT NULL,
	plan        TEXT    NOT NULL,
	source      TEXT    NOT NULL,
	waves       TEXT    NOT NULL,
	note        TEXT    NOT NULL,
	author      TEXT    NOT NULL,
	author_kind TEXT    NOT NULL,
	made_at     INTEGER NOT NULL,
	until       INTEGER NOT NULL,
	state       TEXT    NOT NULL,
	signer      TEXT    NOT NULL,
	signature   TEXT    NOT NULL,
	became      INTEGER NOT NULL,
	record_id   TEXT    NOT NULL,
	over_at     INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX publication_open ON publication (after_n, hash, plan) WHERE state IN ('unsigned', 'signed');
CREATE INDEX publication_until ON publication (until);

-- What a version and a rollout have of the publication that was signed; '' where there
-- was none. carrier is whose act put it in force.
ALTER TABLE ruleset ADD COLUMN carrier TEXT NOT NULL DEFAULT '';
ALTER TABLE ruleset ADD COLUMN publication TEXT NOT NULL DEFAULT '';
ALTER TABLE ruleset ADD COLUMN signature TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN carrier TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN publication TEXT NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN signature TEXT NOT NULL DEFAULT '';
