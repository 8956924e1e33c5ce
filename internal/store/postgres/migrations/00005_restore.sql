-- +goose Up

-- The restore epoch: it moves each time the database has gone back in time and
-- the deployment left its quarantine (mechanisms I10). The log and the feed go by
-- it. epoch_at is when it began; tokens issued before are refused.
ALTER TABLE deployment ADD COLUMN epoch BIGINT NOT NULL DEFAULT 1;
ALTER TABLE deployment ADD COLUMN epoch_at BIGINT;

-- The deployment is a node: frozen is in quarantine, and every act guards it.
INSERT INTO node (id, kind, version) SELECT id, 0, 1 FROM deployment;

-- What a deployment knows about itself, by name.
CREATE TABLE deployment_fact (
	name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	value TEXT COLLATE "C" NOT NULL,
	at    BIGINT           NOT NULL
);

-- What an act took away, where the revocations do not say it: replayed over a
-- restored backup out of an export of the log (mechanisms I11).
CREATE TABLE taken (
	record_id TEXT COLLATE "C" NOT NULL,
	what      TEXT COLLATE "C" NOT NULL,
	a         TEXT COLLATE "C" NOT NULL,
	b         TEXT COLLATE "C" NOT NULL,
	at        BIGINT NOT NULL,
	PRIMARY KEY (record_id, what, a, b)
);
CREATE INDEX taken_at ON taken (at);
