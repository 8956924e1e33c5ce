-- +goose Up

-- Versions of the policies on their way into force, wave by wave. Source and hash
-- never change; at most one is open. base is the version in force that it follows,
-- version what it became, 0 if nothing.
CREATE TABLE rollout (
	n          BIGINT           NOT NULL PRIMARY KEY,
	hash       TEXT COLLATE "C" NOT NULL,
	source     TEXT COLLATE "C" NOT NULL,
	author     TEXT COLLATE "C" NOT NULL,
	note       TEXT COLLATE "C" NOT NULL,
	base       BIGINT           NOT NULL,
	waves      TEXT COLLATE "C" NOT NULL,
	revision   BIGINT           NOT NULL,
	state      TEXT COLLATE "C" NOT NULL,
	version    BIGINT           NOT NULL,
	record_id  TEXT COLLATE "C" NOT NULL,
	started_at BIGINT           NOT NULL,
	ended_at   BIGINT
);

-- Which records say that a rollout cost somebody a prompt or a refusal: who is the
-- pseudonym of the first person that the record concerns.
CREATE TABLE audit_rollout (
	rollout   BIGINT           NOT NULL,
	record_id TEXT COLLATE "C" NOT NULL,
	wave      BIGINT           NOT NULL,
	at        BIGINT           NOT NULL,
	who       BYTEA            NOT NULL,
	denied    BIGINT           NOT NULL,
	rule      TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (rollout, record_id)
);
CREATE INDEX audit_rollout_at ON audit_rollout (rollout, wave, at);
