-- +goose Up

-- Which devices the operator calls its own, for whom, and until when. source is who said
-- so, asset what an inventory calls it.
CREATE TABLE managed_device (
	device TEXT COLLATE "C" NOT NULL REFERENCES device (id),
	person TEXT COLLATE "C" NOT NULL,
	until  BIGINT           NOT NULL,
	asset  TEXT COLLATE "C" NOT NULL,
	source TEXT COLLATE "C" NOT NULL,
	at     BIGINT           NOT NULL,
	PRIMARY KEY (device, person)
);
CREATE INDEX managed_device_person ON managed_device (person);
CREATE INDEX managed_device_until ON managed_device (until);

-- The device that somebody gave a grant out on, for use there; empty where what they gave
-- went elsewhere, or no device was shown.
ALTER TABLE access_grant ADD COLUMN device TEXT COLLATE "C" NOT NULL DEFAULT '';
