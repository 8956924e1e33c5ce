-- +goose Up

-- Signals of risk from outside, until they are over. person is whom one goes with when
-- they are erased.
CREATE TABLE risk_report (
	id     TEXT    NOT NULL PRIMARY KEY,
	kind   TEXT    NOT NULL,
	about  TEXT    NOT NULL,
	thing  TEXT    NOT NULL,
	person TEXT    NOT NULL,
	points INTEGER NOT NULL,
	source TEXT    NOT NULL,
	name   TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	until  INTEGER NOT NULL,
	UNIQUE (source, kind, thing)
) STRICT, WITHOUT ROWID;
CREATE INDEX risk_report_until ON risk_report (until);
CREATE INDEX risk_report_person ON risk_report (person);
