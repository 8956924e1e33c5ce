-- +goose Up

-- Claims about the person that a client asked for one by one.
ALTER TABLE access_grant ADD COLUMN claims TEXT NOT NULL DEFAULT '{}';
