-- +goose Up

-- Who descends from whom. Every noun has a node with its own id; kind 0 is a
-- thing that no token descends from (group, resource).
CREATE TABLE node (
	id        TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	kind      BIGINT NOT NULL,
	version   BIGINT NOT NULL,
	ended_at  BIGINT,
	frozen_at BIGINT,
	why       TEXT COLLATE "C"    NOT NULL DEFAULT ''
);

CREATE TABLE edge (
	child  TEXT COLLATE "C" NOT NULL REFERENCES node (id),
	parent TEXT COLLATE "C" NOT NULL REFERENCES node (id),
	PRIMARY KEY (child, parent)
);

CREATE TABLE revocation (
	record_id TEXT COLLATE "C"    NOT NULL,
	node      TEXT COLLATE "C"    NOT NULL,
	kind      BIGINT NOT NULL,
	at        BIGINT NOT NULL,
	thawed    BIGINT NOT NULL,
	seq       BIGINT,
	PRIMARY KEY (record_id, node)
);
CREATE INDEX revocation_seq ON revocation (seq);
CREATE INDEX revocation_at ON revocation (at);

CREATE TABLE once (
	purpose    BIGINT NOT NULL,
	hash       BYTEA    NOT NULL,
	bound      TEXT COLLATE "C"    NOT NULL DEFAULT '',
	data       BYTEA,
	made_at    BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	used_at    BIGINT,
	used_by    TEXT COLLATE "C"    NOT NULL DEFAULT '',
	ref        TEXT COLLATE "C"    NOT NULL DEFAULT '',
	misses     BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (purpose, hash)
);
CREATE INDEX once_bound ON once (purpose, bound) WHERE bound <> '';
CREATE INDEX once_expires ON once (expires_at);

CREATE TABLE person (
	id             TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	subject        TEXT COLLATE "C"    NOT NULL UNIQUE,
	name           TEXT COLLATE "C"    NOT NULL,
	username       TEXT COLLATE "C"    NOT NULL,
	username_fold  TEXT COLLATE "C"    NOT NULL UNIQUE,
	email          TEXT COLLATE "C"    NOT NULL,
	email_verified BIGINT NOT NULL,
	created_at     BIGINT NOT NULL
);

-- The single row that closes set-up for ever; never deleted.
CREATE TABLE setup (
	one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
	person TEXT COLLATE "C"    NOT NULL,
	at     BIGINT NOT NULL
);

CREATE TABLE people_group (
	id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	name       TEXT COLLATE "C"    NOT NULL UNIQUE,
	kind       TEXT COLLATE "C"    NOT NULL,
	created_at BIGINT NOT NULL
);

CREATE TABLE membership (
	grp    TEXT COLLATE "C" NOT NULL REFERENCES people_group (id),
	person TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (grp, person)
);
CREATE INDEX membership_person ON membership (person);

CREATE TABLE service (
	id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	subject    TEXT COLLATE "C"    NOT NULL UNIQUE,
	name       TEXT COLLATE "C"    NOT NULL,
	owner      TEXT COLLATE "C"    NOT NULL,
	purpose    TEXT COLLATE "C"    NOT NULL,
	review_by  BIGINT,
	groups     TEXT COLLATE "C"    NOT NULL,
	created_at BIGINT NOT NULL
);

CREATE TABLE client (
	id            TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	client_id     TEXT COLLATE "C"    NOT NULL UNIQUE,
	name          TEXT COLLATE "C"    NOT NULL,
	auth_method   TEXT COLLATE "C"    NOT NULL,
	secret_hash   BYTEA,
	jwks          TEXT COLLATE "C",
	redirect_uris TEXT COLLATE "C"    NOT NULL,
	grant_types   TEXT COLLATE "C"    NOT NULL,
	scopes        TEXT COLLATE "C"    NOT NULL,
	resources     TEXT COLLATE "C"    NOT NULL,
	first_party   BIGINT NOT NULL,
	native        BIGINT NOT NULL,
	require_dpop  BIGINT NOT NULL,
	service       TEXT COLLATE "C"    NOT NULL,
	owner         TEXT COLLATE "C"    NOT NULL,
	managed_by    TEXT COLLATE "C"    NOT NULL,
	created_at    BIGINT NOT NULL
);

CREATE TABLE resource (
	id               TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	uri              TEXT COLLATE "C"    NOT NULL,
	canonical        TEXT COLLATE "C"    NOT NULL UNIQUE,
	name             TEXT COLLATE "C"    NOT NULL,
	scopes           TEXT COLLATE "C"    NOT NULL,
	servers          TEXT COLLATE "C"    NOT NULL,
	require_dpop     BIGINT NOT NULL,
	delegation_aware BIGINT NOT NULL,
	managed_by       TEXT COLLATE "C"    NOT NULL,
	created_at       BIGINT NOT NULL
);

CREATE TABLE passkey (
	id              TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	person          TEXT COLLATE "C"    NOT NULL,
	name            TEXT COLLATE "C"    NOT NULL,
	credential_id   BYTEA    NOT NULL UNIQUE,
	public_key      BYTEA    NOT NULL,
	aaguid          TEXT COLLATE "C"    NOT NULL,
	sign_count      BIGINT NOT NULL,
	transports      TEXT COLLATE "C"    NOT NULL,
	user_verified   BIGINT NOT NULL,
	backup_eligible BIGINT NOT NULL,
	backup_state    BIGINT NOT NULL,
	attestation     TEXT COLLATE "C"    NOT NULL,
	attestation_obj BYTEA,
	client_data     BYTEA,
	rp_id           TEXT COLLATE "C"    NOT NULL,
	created_at      BIGINT NOT NULL,
	used_at         BIGINT
);
CREATE INDEX passkey_person ON passkey (person);

CREATE TABLE device (
	id          TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	secret_hash BYTEA    NOT NULL UNIQUE,
	label       TEXT COLLATE "C"    NOT NULL,
	created_at  BIGINT NOT NULL
);

CREATE TABLE session (
	id            TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	secret_hash   BYTEA    NOT NULL UNIQUE,
	person        TEXT COLLATE "C"    NOT NULL,
	device        TEXT COLLATE "C"    NOT NULL,
	proofs        TEXT COLLATE "C"    NOT NULL,
	network       TEXT COLLATE "C"    NOT NULL,
	user_agent    TEXT COLLATE "C"    NOT NULL,
	created_at    BIGINT NOT NULL,
	seen_at       BIGINT,
	expires_at    BIGINT,
	idle_until    BIGINT,
	signed_out_at BIGINT
);
CREATE INDEX session_person ON session (person, id);

CREATE TABLE consent (
	id        TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	person    TEXT COLLATE "C"    NOT NULL,
	client    TEXT COLLATE "C"    NOT NULL,
	resources TEXT COLLATE "C"    NOT NULL,
	scopes    TEXT COLLATE "C"    NOT NULL,
	at        BIGINT NOT NULL
);
CREATE INDEX consent_person ON consent (person, client, id);

CREATE TABLE access_grant (
	id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	person     TEXT COLLATE "C"    NOT NULL,
	client     TEXT COLLATE "C"    NOT NULL,
	session    TEXT COLLATE "C"    NOT NULL,
	consent    TEXT COLLATE "C"    NOT NULL,
	resources  TEXT COLLATE "C"    NOT NULL,
	scopes     TEXT COLLATE "C"    NOT NULL,
	pair       TEXT COLLATE "C"    NOT NULL,
	acr        TEXT COLLATE "C"    NOT NULL,
	proofs     TEXT COLLATE "C"    NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT,
	used_at    BIGINT
);
CREATE INDEX access_grant_person ON access_grant (person, id);

CREATE TABLE refresh_family (
	id           TEXT COLLATE "C"    NOT NULL PRIMARY KEY REFERENCES node (id),
	grant_id     TEXT COLLATE "C"    NOT NULL,
	client       TEXT COLLATE "C"    NOT NULL,
	person       TEXT COLLATE "C"    NOT NULL,
	jkt          TEXT COLLATE "C"    NOT NULL,
	static       BIGINT NOT NULL,
	gen          BIGINT NOT NULL,
	cur_hash     BYTEA    NOT NULL,
	prev_hash    BYTEA    NOT NULL,
	salt         BYTEA,
	rotated_at   BIGINT,
	window_until BIGINT,
	net_until    BIGINT,
	replays      BIGINT NOT NULL,
	network      TEXT COLLATE "C"    NOT NULL,
	key_version  BIGINT NOT NULL,
	created_at   BIGINT NOT NULL,
	expires_at   BIGINT,
	idle_until   BIGINT
);
CREATE INDEX refresh_family_grant ON refresh_family (grant_id);
CREATE INDEX refresh_family_window ON refresh_family (net_until) WHERE salt IS NOT NULL;

CREATE TABLE keyring (
	id           TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	purpose      TEXT COLLATE "C"    NOT NULL,
	alg          TEXT COLLATE "C"    NOT NULL,
	version      BIGINT NOT NULL,
	public       BYTEA,
	sealed       BYTEA    NOT NULL,
	created_at   BIGINT NOT NULL,
	activate_at  BIGINT NOT NULL,
	retire_at    BIGINT,
	withdrawn_at BIGINT,
	UNIQUE (purpose, alg, version)
);

-- A person's pseudonym in the log and the key that seals their parts; deleting
-- the row is the erasure (mechanisms E14).
CREATE TABLE record_key (
	person    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	pseudonym BYTEA NOT NULL UNIQUE,
	sealed    BYTEA NOT NULL
);

-- One row per act. seq is the index in the log: NULL until the sequencer gives
-- it.
CREATE TABLE audit (
	seq        BIGINT UNIQUE,
	id         TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	kind       BIGINT NOT NULL,
	at         BIGINT NOT NULL,
	entry      BYTEA    NOT NULL,
	body       BYTEA    NOT NULL,
	leaf       TEXT COLLATE "C"    NOT NULL,
	facts_hash BYTEA
);

-- Which records concern a person, by pseudonym.
CREATE TABLE audit_person (
	pseudonym BYTEA NOT NULL,
	record_id TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (pseudonym, record_id)
);

CREATE TABLE decision_facts (
	hash BYTEA NOT NULL PRIMARY KEY,
	body BYTEA NOT NULL
);

CREATE TABLE tile (
	level BIGINT NOT NULL,
	n     BIGINT NOT NULL,
	data  BYTEA    NOT NULL,
	PRIMARY KEY (level, n)
);

CREATE TABLE log_head (
	one   BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
	size  BIGINT NOT NULL,
	root  BYTEA    NOT NULL,
	fence BIGINT NOT NULL
);
INSERT INTO log_head (one, size, root, fence) VALUES (1, 0, '\x', 0);

CREATE TABLE checkpoint (
	origin TEXT COLLATE "C"    NOT NULL,
	size   BIGINT NOT NULL,
	at     BIGINT NOT NULL,
	note   BYTEA    NOT NULL,
	PRIMARY KEY (origin, size)
);

CREATE TABLE lease (
	name   TEXT COLLATE "C"    NOT NULL PRIMARY KEY,
	holder TEXT COLLATE "C"    NOT NULL,
	fence  BIGINT NOT NULL,
	until  BIGINT NOT NULL
);
INSERT INTO lease (name, holder, fence, until) VALUES ('sequencer', '', 0, 0);

CREATE TABLE deployment (
	one        BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
	id         TEXT COLLATE "C"    NOT NULL,
	born       TEXT COLLATE "C"    NOT NULL,
	issuer     TEXT COLLATE "C"    NOT NULL,
	created_at BIGINT NOT NULL,
	adopted_at BIGINT
);
