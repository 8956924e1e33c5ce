-- +goose Up

-- Who descends from whom. Every noun has a node with its own id; kind 0 is a
-- thing that no token descends from (group, resource).
CREATE TABLE node (
	id        TEXT    NOT NULL PRIMARY KEY,
	kind      INTEGER NOT NULL,
	version   INTEGER NOT NULL,
	ended_at  INTEGER,
	frozen_at INTEGER,
	why       TEXT    NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE edge (
	child  TEXT NOT NULL REFERENCES node (id),
	parent TEXT NOT NULL REFERENCES node (id),
	PRIMARY KEY (child, parent)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocation (
	record_id TEXT    NOT NULL,
	node      TEXT    NOT NULL,
	kind      INTEGER NOT NULL,
	at        INTEGER NOT NULL,
	thawed    INTEGER NOT NULL,
	seq       INTEGER,
	PRIMARY KEY (record_id, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocation_seq ON revocation (seq);
CREATE INDEX revocation_at ON revocation (at);

CREATE TABLE once (
	purpose    INTEGER NOT NULL,
	hash       BLOB    NOT NULL,
	bound      TEXT    NOT NULL DEFAULT '',
	data       BLOB,
	made_at    INTEGER NOT NULL,
	expires_at INTEGER NOT NULL,
	used_at    INTEGER,
	used_by    TEXT    NOT NULL DEFAULT '',
	ref        TEXT    NOT NULL DEFAULT '',
	misses     INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (purpose, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX once_bound ON once (purpose, bound) WHERE bound <> '';
CREATE INDEX once_expires ON once (expires_at);

CREATE TABLE person (
	id             TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	subject        TEXT    NOT NULL UNIQUE,
	name           TEXT    NOT NULL,
	username       TEXT    NOT NULL,
	username_fold  TEXT    NOT NULL UNIQUE,
	email          TEXT    NOT NULL,
	email_verified INTEGER NOT NULL,
	created_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The single row that closes set-up for ever; never deleted.
CREATE TABLE setup (
	one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	person TEXT    NOT NULL,
	at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE people_group (
	id         TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	name       TEXT    NOT NULL UNIQUE,
	kind       TEXT    NOT NULL,
	created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE membership (
	grp    TEXT NOT NULL REFERENCES people_group (id),
	person TEXT NOT NULL,
	PRIMARY KEY (grp, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX membership_person ON membership (person);

CREATE TABLE service (
	id         TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	subject    TEXT    NOT NULL UNIQUE,
	name       TEXT    NOT NULL,
	owner      TEXT    NOT NULL,
	purpose    TEXT    NOT NULL,
	review_by  INTEGER,
	groups     TEXT    NOT NULL,
	created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE client (
	id            TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	client_id     TEXT    NOT NULL UNIQUE,
	name          TEXT    NOT NULL,
	auth_method   TEXT    NOT NULL,
	secret_hash   BLOB,
	jwks          TEXT,
	redirect_uris TEXT    NOT NULL,
	grant_types   TEXT    NOT NULL,
	scopes        TEXT    NOT NULL,
	resources     TEXT    NOT NULL,
	first_party   INTEGER NOT NULL,
	native        INTEGER NOT NULL,
	require_dpop  INTEGER NOT NULL,
	service       TEXT    NOT NULL,
	owner         TEXT    NOT NULL,
	managed_by    TEXT    NOT NULL,
	created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE resource (
	id               TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	uri              TEXT    NOT NULL,
	canonical        TEXT    NOT NULL UNIQUE,
	name             TEXT    NOT NULL,
	scopes           TEXT    NOT NULL,
	servers          TEXT    NOT NULL,
	require_dpop     INTEGER NOT NULL,
	delegation_aware INTEGER NOT NULL,
	managed_by       TEXT    NOT NULL,
	created_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE passkey (
	id              TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	person          TEXT    NOT NULL,
	name            TEXT    NOT NULL,
	credential_id   BLOB    NOT NULL UNIQUE,
	public_key      BLOB    NOT NULL,
	aaguid          TEXT    NOT NULL,
	sign_count      INTEGER NOT NULL,
	transports      TEXT    NOT NULL,
	user_verified   INTEGER NOT NULL,
	backup_eligible INTEGER NOT NULL,
	backup_state    INTEGER NOT NULL,
	attestation     TEXT    NOT NULL,
	attestation_obj BLOB,
	client_data     BLOB,
	rp_id           TEXT    NOT NULL,
	created_at      INTEGER NOT NULL,
	used_at         INTEGER
) STRICT;
CREATE INDEX passkey_person ON passkey (person);

CREATE TABLE device (
	id          TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	secret_hash BLOB    NOT NULL UNIQUE,
	label       TEXT    NOT NULL,
	created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
	id            TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	secret_hash   BLOB    NOT NULL UNIQUE,
	person        TEXT    NOT NULL,
	device        TEXT    NOT NULL,
	proofs        TEXT    NOT NULL,
	network       TEXT    NOT NULL,
	user_agent    TEXT    NOT NULL,
	created_at    INTEGER NOT NULL,
	seen_at       INTEGER,
	expires_at    INTEGER,
	idle_until    INTEGER,
	signed_out_at INTEGER
) STRICT;
CREATE INDEX session_person ON session (person, id);

CREATE TABLE consent (
	id        TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	person    TEXT    NOT NULL,
	client    TEXT    NOT NULL,
	resources TEXT    NOT NULL,
	scopes    TEXT    NOT NULL,
	at        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX consent_person ON consent (person, client, id);

CREATE TABLE access_grant (
	id         TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	person     TEXT    NOT NULL,
	client     TEXT    NOT NULL,
	session    TEXT    NOT NULL,
	consent    TEXT    NOT NULL,
	resources  TEXT    NOT NULL,
	scopes     TEXT    NOT NULL,
	pair       TEXT    NOT NULL,
	acr        TEXT    NOT NULL,
	proofs     TEXT    NOT NULL,
	created_at INTEGER NOT NULL,
	expires_at INTEGER,
	used_at    INTEGER
) STRICT;
CREATE INDEX access_grant_person ON access_grant (person, id);

CREATE TABLE refresh_family (
	id           TEXT    NOT NULL PRIMARY KEY REFERENCES node (id),
	grant_id     TEXT    NOT NULL,
	client       TEXT    NOT NULL,
	person       TEXT    NOT NULL,
	jkt          TEXT    NOT NULL,
	static       INTEGER NOT NULL,
	gen          INTEGER NOT NULL,
	cur_hash     BLOB    NOT NULL,
	prev_hash    BLOB    NOT NULL,
	salt         BLOB,
	rotated_at   INTEGER,
	window_until INTEGER,
	net_until    INTEGER,
	replays      INTEGER NOT NULL,
	network      TEXT    NOT NULL,
	key_version  INTEGER NOT NULL,
	created_at   INTEGER NOT NULL,
	expires_at   INTEGER,
	idle_until   INTEGER
) STRICT;
CREATE INDEX refresh_family_grant ON refresh_family (grant_id);
CREATE INDEX refresh_family_window ON refresh_family (net_until) WHERE salt IS NOT NULL;

CREATE TABLE keyring (
	id           TEXT    NOT NULL PRIMARY KEY,
	purpose      TEXT    NOT NULL,
	alg          TEXT    NOT NULL,
	version      INTEGER NOT NULL,
	public       BLOB,
	sealed       BLOB    NOT NULL,
	created_at   INTEGER NOT NULL,
	activate_at  INTEGER NOT NULL,
	retire_at    INTEGER,
	withdrawn_at INTEGER,
	UNIQUE (purpose, alg, version)
) STRICT;

-- A person's pseudonym in the log and the key that seals their parts; deleting
-- the row is the erasure (mechanisms E14).
CREATE TABLE record_key (
	person    TEXT NOT NULL PRIMARY KEY,
	pseudonym BLOB NOT NULL UNIQUE,
	sealed    BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per act. seq is the index in the log: given at once by the only
-- writer.
CREATE TABLE audit (
	seq        INTEGER NOT NULL PRIMARY KEY,
	id         TEXT    NOT NULL UNIQUE,
	kind       INTEGER NOT NULL,
	at         INTEGER NOT NULL,
	entry      BLOB    NOT NULL,
	body       BLOB    NOT NULL,
	leaf       TEXT    NOT NULL,
	facts_hash BLOB
) STRICT;

-- Which records concern a person, by pseudonym.
CREATE TABLE audit_person (
	pseudonym BLOB NOT NULL,
	record_id TEXT NOT NULL,
	PRIMARY KEY (pseudonym, record_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE decision_facts (
	hash BLOB NOT NULL PRIMARY KEY,
	body BLOB NOT NULL
) STRICT;

CREATE TABLE tile (
	level INTEGER NOT NULL,
	n     INTEGER NOT NULL,
	data  BLOB    NOT NULL,
	PRIMARY KEY (level, n)
) STRICT;

CREATE TABLE log_head (
	one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	size  INTEGER NOT NULL,
	root  BLOB    NOT NULL,
	fence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO log_head (one, size, root, fence) VALUES (1, 0, X'', 0);

CREATE TABLE checkpoint (
	origin TEXT    NOT NULL,
	size   INTEGER NOT NULL,
	at     INTEGER NOT NULL,
	note   BLOB    NOT NULL,
	PRIMARY KEY (origin, size)
) STRICT;

CREATE TABLE lease (
	name   TEXT    NOT NULL PRIMARY KEY,
	holder TEXT    NOT NULL,
	fence  INTEGER NOT NULL,
	until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO lease (name, holder, fence, until) VALUES ('sequencer', '', 0, 0);

CREATE TABLE deployment (
	one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	id         TEXT    NOT NULL,
	born       TEXT    NOT NULL,
	issuer     TEXT    NOT NULL,
	created_at INTEGER NOT NULL,
	adopted_at INTEGER
) STRICT, WITHOUT ROWID;
