-- +goose Up

-- When a client's secret was made, and the one before it, which works until its
-- time.
ALTER TABLE client ADD COLUMN secret_at INTEGER;
ALTER TABLE client ADD COLUMN earlier_hash BLOB;
ALTER TABLE client ADD COLUMN earlier_at INTEGER;
ALTER TABLE client ADD COLUMN earlier_until INTEGER;
