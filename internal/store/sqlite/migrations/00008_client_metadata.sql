-- +goose Up

-- What else a client is registered with, under its standards' names.
ALTER TABLE client ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
