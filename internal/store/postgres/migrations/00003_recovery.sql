-- +goose Up

-- How people get back in: by a code and time, by others, by a pass. The claim
-- is the code of the browser that began it.
CREATE TABLE recovery (
	id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	person     TEXT COLLATE "C"    NOT NULL,
	method     TEXT COLLATE "C"    NOT NULL,
	claim      TEXT COLLATE "C"    NOT NULL,
	state      TEXT COLLATE "C"    NOT NULL,
	reason     TEXT COLLATE "C"    NOT NULL,
	opened_by  TEXT COLLATE "C"    NOT NULL,
	confirmed  BIGINT NOT NULL,
	started_at BIGINT NOT NULL,
	ready_at   BIGINT,
	expires_at BIGINT NOT NULL,
	ended_at   BIGINT,
	made       TEXT COLLATE "C"    NOT NULL DEFAULT '',
	lasts      BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX recovery_open ON recovery (person, method) WHERE state = 'open';
CREATE INDEX recovery_person ON recovery (person, id);
CREATE INDEX recovery_claim ON recovery (claim) WHERE claim <> '';

CREATE TABLE recovery_confirmation (
	recovery TEXT COLLATE "C" NOT NULL REFERENCES recovery (id),
	person   TEXT COLLATE "C"    NOT NULL,
	at       BIGINT NOT NULL,
	PRIMARY KEY (recovery, person)
);

-- Since when somebody belongs to a group; 0: since before this was kept.
ALTER TABLE membership ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
