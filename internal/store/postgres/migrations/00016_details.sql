-- +goose Up

-- Authorization details (RFC 9396): types of a resource, what was granted, and what a
-- person agreed to for one interaction.
ALTER TABLE resource ADD COLUMN details TEXT NOT NULL DEFAULT '[]';
ALTER TABLE access_grant ADD COLUMN details TEXT NOT NULL DEFAULT '[]';
ALTER TABLE consent ADD COLUMN details TEXT NOT NULL DEFAULT '[]';
ALTER TABLE consent ADD COLUMN details_for TEXT NOT NULL DEFAULT '';
