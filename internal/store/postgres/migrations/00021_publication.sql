-- +goose Up

-- Sets of policies that somebody wants in force, which a person has to sign. waves is
-- null where one comes into force at once, plan what they are hashed to; signer and
-- signature are '' until it is signed, became is 0 until it was carried out.
CREATE TABLE publication (
	id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	after_n     BIGINT NOT NULL,
	hash        TEXT COLLATE "C" NOT NULL,
	plan        TEXT COLLATE "C" NOT NULL,
	source      TEXT COLLATE "C" NOT NULL,
	waves       TEXT COLLATE "C" NOT NULL,
	note        TEXT COLLATE "C" NOT NULL,
	author      TEXT COLLATE "C" NOT NULL,
	author_kind TEXT COLLATE "C" NOT NULL,
	made_at     BIGINT NOT NULL,
	until       BIGINT NOT NULL,
	state       TEXT COLLATE "C" NOT NULL,
	signer      TEXT COLLATE "C" NOT NULL,
	signature   TEXT COLLATE "C" NOT NULL,
	became      BIGINT NOT NULL,
	record_id   TEXT COLLATE "C" NOT NULL,
	over_at     BIGINT
);
CREATE UNIQUE INDEX publication_open ON publication (after_n, hash, plan) WHERE state IN ('unsigned', 'signed');
CREATE INDEX publication_until ON publication (until);

-- What a version and a rollout have of the publication that was signed; '' where there
-- was none. carrier is whose act put it in force.
ALTER TABLE ruleset ADD COLUMN carrier TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE ruleset ADD COLUMN publication TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE ruleset ADD COLUMN signature TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN carrier TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN publication TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE rollout ADD COLUMN signature TEXT COLLATE "C" NOT NULL DEFAULT '';
