-- +goose Up

-- The certificate that a public client's refresh tokens are bound to (RFC 8705 §7.1).
ALTER TABLE refresh_family ADD COLUMN x5t TEXT NOT NULL DEFAULT '';
