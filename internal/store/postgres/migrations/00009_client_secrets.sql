-- +goose Up

-- When a client's secret was made, and the one before it, which works until its
-- time.
ALTER TABLE client ADD COLUMN secret_at BIGINT;
ALTER TABLE client ADD COLUMN earlier_hash BYTEA;
ALTER TABLE client ADD COLUMN earlier_at BIGINT;
ALTER TABLE client ADD COLUMN earlier_until BIGINT;
