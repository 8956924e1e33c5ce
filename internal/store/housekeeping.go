package store

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/review"
)

// sweepBatch is how many rows one transaction of housekeeping touches.
const sweepBatch = 500

// sweeps are what housekeeping does, each with how long after its time a thing
// is kept. The texts take the moment and the batch.
var sweeps = []struct {
	what  string
	after time.Duration
	count string // counts at most a batch of what is due
	do    []string
}{
	{
		"replay marks", time.Minute,
		`SELECT COUNT(*) FROM (SELECT 1 FROM once WHERE expires_at < $1 AND purpose IN (8, 9) LIMIT $2) due`,
		[]string{`DELETE FROM once WHERE (purpose, hash) IN (SELECT purpose, hash FROM once WHERE expires_at < $1 AND purpose IN (8, 9) LIMIT $2)`},
	},
	{
		"single-use values", 24 * time.Hour,
		`SELECT COUNT(*) FROM (SELECT 1 FROM once WHERE expires_at < $1 LIMIT $2) due`,
		[]string{`DELETE FROM once WHERE (purpose, hash) IN (SELECT purpose, hash FROM once WHERE expires_at < $1 LIMIT $2)`},
	},
	{
		"budgets of guesses", 0,
		`SELECT COUNT(*) FROM (SELECT 1 FROM attempt WHERE keep < $1 LIMIT $2) due`,
		[]string{`DELETE FROM attempt WHERE bucket IN (SELECT bucket FROM attempt WHERE keep < $1 LIMIT $2)`},
	},
	{
		"closed refresh windows", time.Second, // mechanisms D3: the salt goes when its window closes
		`SELECT COUNT(*) FROM (SELECT 1 FROM refresh_family WHERE salt IS NOT NULL AND net_until < $1 AND window_until < $1 LIMIT $2) due`,
		[]string{`UPDATE refresh_family SET salt = NULL WHERE id IN (
SELECT id FROM refresh_family WHERE salt IS NOT NULL AND net_until < $1 AND window_until < $1 LIMIT $2)`},
	},
	{
		"old revocations", keptTaken, // an export of the log says what they took
		`SELECT COUNT(*) FROM (SELECT 1 FROM revocation WHERE at < $1 AND seq IS NOT NULL LIMIT $2) due`,
		[]string{`DELETE FROM revocation WHERE (record_id, node) IN (SELECT record_id, node FROM revocation WHERE at < $1 AND seq IS NOT NULL LIMIT $2)`},
	},
	{
		"what acts took", keptTaken,
		`SELECT COUNT(*) FROM (SELECT 1 FROM taken WHERE at < $1 LIMIT $2) due`,
		[]string{`DELETE FROM taken WHERE record_id IN (SELECT record_id FROM taken WHERE at < $1 LIMIT $2)`},
	},
	{
		"old checkpoints", time.Hour, // after an hour, the last one of each hour stays, and the last cosigned one
		`SELECT COUNT(*) FROM (SELECT 1 FROM checkpoint WHERE at < $1 AND ` + superseded + ` LIMIT $2) due`,
		[]string{
			`DELETE FROM checkpoint WHERE (epoch, size) IN (SELECT epoch, size FROM checkpoint WHERE at < $1 AND ` + superseded + ` LIMIT $2)`,
			`DELETE FROM cosignature WHERE at < $1 AND (epoch, size) IN (
SELECT x.epoch, x.size FROM cosignature x LEFT JOIN checkpoint c ON c.epoch = x.epoch AND c.size = x.size WHERE c.size IS NULL LIMIT $2)`,
		},
	},
	{
		"habits of actors that do nothing", profileLife,
		`SELECT COUNT(*) FROM (SELECT 1 FROM profile WHERE kept_at < $1 LIMIT $2) due`,
		[]string{`DELETE FROM profile WHERE actor IN (SELECT actor FROM profile WHERE kept_at < $1 LIMIT $2)`},
	},
	{
		"signals of risk that are over", 0,
		`SELECT COUNT(*) FROM (SELECT 1 FROM risk_report WHERE until <= $1 LIMIT $2) due`,
		[]string{`DELETE FROM risk_report WHERE id IN (SELECT id FROM risk_report WHERE until <= $1 LIMIT $2)`},
	},
	{
		"marks of devices that are over", 30 * 24 * time.Hour, // until then people see that one ran out
		`SELECT COUNT(*) FROM (SELECT 1 FROM managed_device WHERE until <= $1 LIMIT $2) due`,
		[]string{`DELETE FROM managed_device WHERE (device, person) IN (SELECT device, person FROM managed_device WHERE until <= $1 LIMIT $2)`},
	},
	{
		"reviews that are over", review.Life,
		`SELECT COUNT(*) FROM (SELECT 1 FROM review WHERE over_at < $1 LIMIT $2) due`,
		[]string{`DELETE FROM review WHERE id IN (SELECT id FROM review WHERE over_at < $1 LIMIT $2)`},
	},
	{
		"publications that are over", 30 * 24 * time.Hour, // a version and a rollout keep the signature that they came of
		`SELECT COUNT(*) FROM (SELECT 1 FROM publication WHERE until < $1 LIMIT $2) due`,
		[]string{`DELETE FROM publication WHERE id IN (SELECT id FROM publication WHERE until < $1 LIMIT $2)`},
	},
	{
		"processes that are gone", 7 * 24 * time.Hour,
		`SELECT COUNT(*) FROM (SELECT 1 FROM log_writer WHERE closed_at < $1 OR lost_at < $1 LIMIT $2) due`,
		[]string{`DELETE FROM log_writer WHERE id IN (SELECT id FROM log_writer WHERE closed_at < $1 OR lost_at < $1 LIMIT $2)`},
	},
}

// superseded is a condition on checkpoints that no hour needs.
const superseded = `(epoch, size) NOT IN (SELECT epoch, MAX(size) FROM checkpoint GROUP BY epoch, at / 3600000000)
AND (epoch, size) NOT IN (SELECT epoch, MAX(size) FROM cosignature GROUP BY epoch, at / 3600000000)`

// DeleteExpired forgets what is past its use, in small transactions, until
// nothing is due or ctx ends. It is called by a loop, once a minute or so. now is a
// time that no clock goes back behind: what is forgotten was never used, for all
// that anybody can tell afterwards.
func (s *Store) DeleteExpired(ctx context.Context, now time.Time) error {
	for _, sw := range sweeps {
		before := now.Add(-sw.after).UnixMicro()
		for {
			due, _, err := one(ctx, s.db, scanInt, sw.count, before, int64(sweepBatch))
			if err == nil && due > 0 {
				u := Unit{}
				for _, text := range sw.do {
					u.Then = append(u.Then, Stmt{SQL: text, Args: []any{before, int64(sweepBatch)}, Want: Any})
				}
				err = s.db.Write(ctx, u)
			}
			if err != nil {
				return fmt.Errorf("store: sweep %s: %w", sw.what, err)
			}
			if due < sweepBatch {
				break
			}
		}
	}
	return nil
}

// Counts are figures for metrics.
type Counts struct {
	Bytes   int64 // of the database
	Records int64 // numbered and in the tree
	Pending int64 // committed and not yet in the tree
	Signed  int64 // covered by the largest checkpoint
}

// Counts reads the figures.
func (s *Store) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	var top, unnumbered int64
	err := s.db.Query(ctx, `SELECT h.size, h.base + COALESCE((SELECT MAX(size) FROM checkpoint WHERE epoch = h.epoch), 0), COALESCE((SELECT MAX(seq) FROM audit), -1) + 1,
(SELECT COUNT(*) FROM audit WHERE seq IS NULL) FROM log_head h`, nil, func(row Row) error {
		return row.Scan(&c.Records, &c.Signed, &top, &unnumbered)
	})
	if err != nil {
		return Counts{}, fmt.Errorf("store: count: %w", err)
	}
	c.Pending = max(top-c.Records, 0) + unnumbered
	if c.Bytes, err = s.db.Size(ctx); err != nil {
		return Counts{}, err
	}
	return c, nil
}
