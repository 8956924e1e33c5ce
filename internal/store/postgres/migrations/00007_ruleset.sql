-- +goose Up

-- Versions of the policies: immutable, the highest in force; none is the default
-- set of the program. author is the person who published, '' the operator of the
-- host; restores is the version that was put back, -1 if none.
CREATE TABLE ruleset (
	n            BIGINT           NOT NULL PRIMARY KEY,
	hash         TEXT COLLATE "C" NOT NULL,
	source       TEXT COLLATE "C" NOT NULL,
	author       TEXT COLLATE "C" NOT NULL,
	note         TEXT COLLATE "C" NOT NULL,
	restores     BIGINT           NOT NULL,
	record_id    TEXT COLLATE "C" NOT NULL,
	published_at BIGINT           NOT NULL
);
