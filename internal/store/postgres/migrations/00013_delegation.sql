-- +goose Up

-- A client's service acts in the name of a subject, by token exchange: one for
-- each credential that is exchanged (parent) and each client.
CREATE TABLE delegation (
	id         TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES node (id),
	parent     TEXT COLLATE "C" NOT NULL,
	grant_id   TEXT COLLATE "C" NOT NULL,
	subject    TEXT COLLATE "C" NOT NULL,
	origin     TEXT COLLATE "C" NOT NULL,
	client     TEXT COLLATE "C" NOT NULL,
	actor      TEXT COLLATE "C" NOT NULL,
	depth      BIGINT           NOT NULL,
	created_at BIGINT           NOT NULL
);
CREATE INDEX delegation_parent ON delegation (parent, client, id);
