-- +goose Up

-- Signals of risk from outside, until they are over. person is whom one goes with when
-- they are erased.
CREATE TABLE risk_report (
	id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	kind   TEXT COLLATE "C" NOT NULL,
	about  TEXT COLLATE "C" NOT NULL,
	thing  TEXT COLLATE "C" NOT NULL,
	person TEXT COLLATE "C" NOT NULL,
	points BIGINT           NOT NULL,
	source TEXT COLLATE "C" NOT NULL,
	name   TEXT COLLATE "C" NOT NULL,
	at     BIGINT           NOT NULL,
	until  BIGINT           NOT NULL,
	UNIQUE (source, kind, thing)
);
CREATE INDEX risk_report_until ON risk_report (until);
CREATE INDEX risk_report_person ON risk_report (person);
