-- +goose Up

-- What was refused and waits for an administrator to look at it (package review).
CREATE TABLE review (
	id          TEXT    NOT NULL PRIMARY KEY,
	kind        TEXT    NOT NULL,
	actor       TEXT    NOT NULL,
	client      TEXT    NOT NULL,
	action      TEXT    NOT NULL,
	state       TEXT    NOT NULL,
	count       INTEGER NOT NULL,
	ref         TEXT    NOT NULL,
	record      TEXT    NOT NULL,
	opened_at   INTEGER NOT NULL,
	last_at     INTEGER NOT NULL,
	seen        TEXT    NOT NULL,
	resolved_by TEXT    NOT NULL,
	note        TEXT    NOT NULL,
	over_at     INTEGER,
	until       INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX review_open ON review (actor, client, action) WHERE state = 'open';
CREATE INDEX review_actor ON review (actor, state);
CREATE INDEX review_state ON review (state, id);
CREATE INDEX review_over ON review (over_at);
