-- +goose Up

-- What an actor usually does, for the score of its risk (package risk).
CREATE TABLE profile (
	actor   TEXT NOT NULL PRIMARY KEY,
	state   BLOB NOT NULL,
	kept_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX profile_old ON profile (kept_at);
