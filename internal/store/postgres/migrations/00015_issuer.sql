-- +goose Up

-- Issuers whose assertions are taken as grants. active is their iss until they are
-- removed.
CREATE TABLE trusted_issuer (
	id         TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES node (id),
	active     TEXT COLLATE "C" UNIQUE,
	spec       TEXT COLLATE "C" NOT NULL,
	managed_by TEXT COLLATE "C" NOT NULL,
	created_at BIGINT           NOT NULL
);

-- Which of an issuer's subjects is which person. active is issuer, tenant and
-- subject until the link is ended.
CREATE TABLE issuer_link (
	id         TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES node (id),
	active     TEXT COLLATE "C" UNIQUE,
	issuer     TEXT COLLATE "C" NOT NULL,
	tenant     TEXT COLLATE "C" NOT NULL,
	subject    TEXT COLLATE "C" NOT NULL,
	person     TEXT COLLATE "C" NOT NULL,
	created_at BIGINT           NOT NULL
);
CREATE INDEX issuer_link_issuer ON issuer_link (issuer, id);
CREATE INDEX issuer_link_person ON issuer_link (person);
