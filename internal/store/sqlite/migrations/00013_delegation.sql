-- +goose Up

-- A client's service acts in the name of a subject, by token exchange: one for
-- each credential that is exchanged (parent) and each client.
CREATE TABLE delegation (
	id         TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	parent     TEXT    NOT NULL,
	grant_id   TEXT    NOT NULL,
	subject    TEXT    NOT NULL,
	origin     TEXT    NOT NULL,
	client     TEXT    NOT NULL,
	actor      TEXT    NOT NULL,
	depth      INTEGER NOT NULL,
	created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX delegation_parent ON delegation (parent, client, id);
