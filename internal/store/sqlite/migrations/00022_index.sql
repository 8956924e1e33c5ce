-- +goose Up

-- Which resources a client serves, as resource.servers says; filled at the next start.
CREATE TABLE resource_server (
	client   TEXT NOT NULL,
	resource TEXT NOT NULL,
	PRIMARY KEY (client, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX resource_server_resource ON resource_server (resource);

-- Which records name the request of which reference, from the first of them on. The
-- records of whoever is erased are taken out.
CREATE TABLE audit_ref (
	ref       TEXT NOT NULL,
	record_id TEXT NOT NULL,
	PRIMARY KEY (ref, record_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_ref_record ON audit_ref (record_id);
