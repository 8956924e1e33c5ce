-- +goose Up

-- Issuers whose assertions are taken as grants. active is their iss until they are
-- removed.
CREATE TABLE trusted_issuer (
	id         TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	active     TEXT    UNIQUE,
	spec       TEXT    NOT NULL,
	managed_by TEXT    NOT NULL,
	created_at INTEGER NOT NULL
) STRICT;

-- Which of an issuer's subjects is which person. active is issuer, tenant and
-- subject until the link is ended.
CREATE TABLE issuer_link (
	id         TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	active     TEXT    UNIQUE,
	issuer     TEXT    NOT NULL,
	tenant     TEXT    NOT NULL,
	subject    TEXT    NOT NULL,
	person     TEXT    NOT NULL,
	created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX issuer_link_issuer ON issuer_link (issuer, id);
CREATE INDEX issuer_link_person ON issuer_link (person);
