-- +goose Up

-- What an actor usually does, for the score of its risk (package risk).
CREATE TABLE profile (
	actor   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	state   BYTEA NOT NULL,
	kept_at BIGINT NOT NULL
);
CREATE INDEX profile_old ON profile (kept_at);
