-- +goose Up

-- How far each channel of notices has come in the log: mail, alerts, and each
-- webhook by its id.
CREATE TABLE notice_channel (
	name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	next BIGINT NOT NULL
);

-- What could not be delivered at once. It names its record; what it says is made
-- again out of that. next_at is NULL for a dead letter.
CREATE TABLE delivery (
	id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	channel  TEXT COLLATE "C" NOT NULL,
	record   TEXT COLLATE "C" NOT NULL,
	person   TEXT COLLATE "C" NOT NULL,
	attempts BIGINT NOT NULL,
	next_at  BIGINT,
	made_at  BIGINT NOT NULL,
	why      TEXT COLLATE "C" NOT NULL,
	UNIQUE (channel, record, person)
);
CREATE INDEX delivery_due ON delivery (channel, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (id) WHERE next_at IS NULL;

CREATE TABLE webhook (
	id         TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES node (id),
	name       TEXT COLLATE "C" NOT NULL,
	url        TEXT COLLATE "C" NOT NULL,
	events     TEXT COLLATE "C" NOT NULL,
	sealed     BYTEA NOT NULL,
	sealed_before BYTEA,
	sealed_until BIGINT,
	managed_by TEXT COLLATE "C" NOT NULL,
	created_at BIGINT NOT NULL
);

-- Alerts about states that have not ended.
CREATE TABLE standing_alert (
	rule      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	detail    TEXT COLLATE "C" NOT NULL,
	raised_at BIGINT NOT NULL,
	record    TEXT COLLATE "C" NOT NULL
);

INSERT INTO lease (name, holder, fence, until) VALUES ('notices', '', 0, 0);
