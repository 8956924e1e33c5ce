-- +goose Up

-- Which devices the operator calls its own, for whom, and until when. source is who said
-- so, asset what an inventory calls it.
CREATE TABLE managed_device (
	device TEXT    NOT NULL REFERENCES device (id),
	person TEXT    NOT NULL,
	until  INTEGER NOT NULL,
	asset  TEXT    NOT NULL,
	source TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	PRIMARY KEY (device, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX managed_device_person ON managed_device (person);
CREATE INDEX managed_device_until ON managed_device (until);

-- The device that somebody gave a grant out on, for use there; empty where what they gave
-- went elsewhere, or no device was shown.
ALTER TABLE access_grant ADD COLUMN device TEXT NOT NULL DEFAULT '';
