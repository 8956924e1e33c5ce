-- +goose Up

-- Which resources a client serves, as resource.servers says; filled at the next start.
CREATE TABLE resource_server (
	client   TEXT COLLATE "C" NOT NULL,
	resource TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (client, resource)
);
CREATE INDEX resource_server_resource ON resource_server (resource);

-- Which records name the request of which reference, from the first of them on. The
-- records of whoever is erased are taken out.
CREATE TABLE audit_ref (
	ref       TEXT COLLATE "C" NOT NULL,
	record_id TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (ref, record_id)
);
CREATE INDEX audit_ref_record ON audit_ref (record_id);
