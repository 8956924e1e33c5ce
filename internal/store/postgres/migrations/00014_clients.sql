-- +goose Up

-- Clients that no administrator registered: how each came to be known, and what
-- a person who agreed was shown.
ALTER TABLE client ADD COLUMN source TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE client ADD COLUMN grp TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE client ADD COLUMN digest TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX client_grp ON client (source, grp);
ALTER TABLE consent ADD COLUMN digest TEXT COLLATE "C" NOT NULL DEFAULT '';

-- What administrators say of them.
CREATE TABLE client_openness (
	one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
	body TEXT COLLATE "C" NOT NULL
);

CREATE TABLE client_rule (
	source TEXT COLLATE "C" NOT NULL,
	grp    TEXT COLLATE "C" NOT NULL,
	trust  TEXT COLLATE "C" NOT NULL,
	name   TEXT COLLATE "C" NOT NULL,
	at     BIGINT NOT NULL,
	PRIMARY KEY (source, grp)
);

CREATE TABLE client_document (
	client_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	body      TEXT COLLATE "C" NOT NULL,
	at        BIGINT NOT NULL
);
