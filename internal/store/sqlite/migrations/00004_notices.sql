-- +goose Up

-- How far each channel of notices has come in the log: mail, alerts, and each
-- webhook by its id.
CREATE TABLE notice_channel (
	name TEXT NOT NULL PRIMARY KEY,
	next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What could not be delivered at once. It names its record; what it says is made
-- again out of that. next_at is NULL for a dead letter.
CREATE TABLE delivery (
	id       TEXT NOT NULL PRIMARY KEY,
	channel  TEXT NOT NULL,
	record   TEXT NOT NULL,
	person   TEXT NOT NULL,
	attempts INTEGER NOT NULL,
	next_at  INTEGER,
	made_at  INTEGER NOT NULL,
	why      TEXT NOT NULL,
	UNIQUE (channel, record, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery (channel, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (id) WHERE next_at IS NULL;

CREATE TABLE webhook (
	id         TEXT NOT NULL PRIMARY KEY REFERENCES node (id),
	name       TEXT NOT NULL,
	url        TEXT NOT NULL,
	events     TEXT NOT NULL,
	sealed     BLOB NOT NULL,
	sealed_before BLOB,
	sealed_until INTEGER,
	managed_by TEXT NOT NULL,
	created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Alerts about states that have not ended.
CREATE TABLE standing_alert (
	rule      TEXT NOT NULL PRIMARY KEY,
	detail    TEXT NOT NULL,
	raised_at INTEGER NOT NULL,
	record    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO lease (name, holder, fence, until) VALUES ('notices', '', 0, 0);
