-- +goose Up

-- What was refused and waits for an administrator to look at it (package review).
CREATE TABLE review (
	id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	kind        TEXT COLLATE "C" NOT NULL,
	actor       TEXT COLLATE "C" NOT NULL,
	client      TEXT COLLATE "C" NOT NULL,
	action      TEXT COLLATE "C" NOT NULL,
	state       TEXT COLLATE "C" NOT NULL,
	count       BIGINT NOT NULL,
	ref         TEXT COLLATE "C" NOT NULL,
	record      TEXT COLLATE "C" NOT NULL,
	opened_at   BIGINT NOT NULL,
	last_at     BIGINT NOT NULL,
	seen        TEXT COLLATE "C" NOT NULL,
	resolved_by TEXT COLLATE "C" NOT NULL,
	note        TEXT COLLATE "C" NOT NULL,
	over_at     BIGINT,
	until       BIGINT
);
CREATE UNIQUE INDEX review_open ON review (actor, client, action) WHERE state = 'open';
CREATE INDEX review_actor ON review (actor, state);
CREATE INDEX review_state ON review (state, id);
CREATE INDEX review_over ON review (over_at);
