package store

import (
	"context"
	"fmt"
	"time"
)

// KeepCosignature keeps what a witness said of a checkpoint, a verified signature
// line; what it says later of the same one replaces it.
func (s *Store) KeepCosignature(ctx context.Context, epoch, size uint64, witness string, at time.Time, line string) error {
	err := s.db.Write(ctx, Unit{Then: []Stmt{{
		SQL: `INSERT INTO cosignature (epoch, size, witness, at, line) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (epoch, size, witness) DO UPDATE SET at = excluded.at, line = excluded.line`,
		Args: []any{int64(epoch), int64(size), witness, at.UnixMicro(), line}, Want: Any,
	}}})
	if err != nil {
		return fmt.Errorf("store: keep a cosignature: %w", err)
	}
	return nil
}

// Cosigned is a signed checkpoint with what is kept of its witnesses.
type Cosigned struct {
	Size uint64
	Note []byte // with the cosignatures behind the log's own signature
	At   time.Time
}

// cosignedPage is how many cosignatures one call of Cosigned looks at.
const cosignedPage = 400

// Cosigned lists the epoch's cosigned checkpoints of at least a size, largest first,
// as many as belong to the latest cosignatures.
func (l *EpochLog) Cosigned(ctx context.Context, from uint64) ([]Cosigned, error) {
	var out []Cosigned
	err := l.s.db.Query(ctx, `SELECT c.size, c.note, x.at, x.line FROM cosignature x JOIN checkpoint c ON c.epoch = x.epoch AND c.size = x.size
WHERE x.epoch = $1 AND x.size >= $2 ORDER BY x.size DESC, x.witness LIMIT $3`, []any{int64(l.e.N), int64(from), int64(cosignedPage)}, func(row Row) error {
		var size, at int64
		var note []byte
		var line string
		if err := row.Scan(&size, &note, &at, &line); err != nil {
			return err
		}
		if n := len(out); n == 0 || out[n-1].Size != uint64(size) {
			out = append(out, Cosigned{Size: uint64(size), Note: append([]byte(nil), note...)})
		}
		last := &out[len(out)-1]
		last.Note = append(last.Note, line...)
		if t := moment(at); t.After(last.At) {
			last.At = t
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: read cosignatures: %w", err)
	}
	return out, nil
}
