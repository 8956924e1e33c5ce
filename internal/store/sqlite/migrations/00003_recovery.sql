-- +goose Up

-- How people get back in: by a code and time, by others, by a pass. The claim
-- is the code of the browser that began it.
CREATE TABLE recovery (
	id         TEXT    NOT NULL PRIMARY KEY,
	person     TEXT    NOT NULL,
	method     TEXT    NOT NULL,
	claim      TEXT    NOT NULL,
	state      TEXT    NOT NULL,
	reason     TEXT    NOT NULL,
	opened_by  TEXT    NOT NULL,
	confirmed  INTEGER NOT NULL,
	started_at INTEGER NOT NULL,
	ready_at   INTEGER,
	expires_at INTEGER NOT NULL,
	ended_at   INTEGER,
	made       TEXT    NOT NULL DEFAULT '',
	lasts      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX recovery_open ON recovery (person, method) WHERE state = 'open';
CREATE INDEX recovery_person ON recovery (person, id);
CREATE INDEX recovery_claim ON recovery (claim) WHERE claim <> '';

CREATE TABLE recovery_confirmation (
	recovery TEXT    NOT NULL REFERENCES recovery (id),
	person   TEXT    NOT NULL,
	at       INTEGER NOT NULL,
	PRIMARY KEY (recovery, person)
) STRICT, WITHOUT ROWID;

-- Since when somebody belongs to a group; 0: since before this was kept.
ALTER TABLE membership ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
