package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// A database goes back in time beneath a running process when a standby that lacks
// something is promoted, or a copy is put back and started. Both break every
// connection, and a session on a standby is refused: so the server is looked at when
// a connection is made, before anything uses it, and now and then for what stands
// between (a pooler).
//
// What a process holds against it is where the server was, and the newest acts that
// it acknowledged, as many as can be under way at once. What is in the write-ahead
// log is in one order and a copy has a beginning of it, so if those are there,
// nothing that this process acknowledged is missing.

// memory is what a process remembers of its database. It is safe for concurrent use.
type memory struct {
	lossy bool // the operator accepts a failover that loses: each one is a restore (mechanisms I16)

	mu     sync.Mutex
	place  store.Place
	newest []acknowledged // a ring
	next   int

	gone atomic.Pointer[store.WentBack]
}

// acknowledged is the record of an act that was acknowledged, and when.
type acknowledged struct {
	record string
	at     time.Time
}

// heldFor is for how long an act is held against the database: records may be pruned
// when they are a month old.
const heldFor = 24 * time.Hour

// acknowledge remembers an act that is durable.
func (m *memory) acknowledge(record string) {
	if record == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest[m.next] = acknowledged{record, time.Now()}
	m.next = (m.next + 1) % len(m.newest)
}

// held is the place and the acts that are remembered.
func (m *memory) held() (place store.Place, records []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.newest {
		if a.record != "" && time.Since(a.at) < heldFor {
			records = append(records, a.record)
		}
	}
	return m.place, records
}

// keep remembers a place.
func (m *memory) keep(now store.Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.place = m.place.With(now)
}

// Place implements store.Placed.
func (e *engine) Place() store.Place {
	p, _ := e.memory.held()
	return p
}

// Look implements store.Placed.
func (e *engine) Look(ctx context.Context) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := e.arrived(ctx, conn.Conn()); err != nil {
		return unavailable(err)
	}
	return nil
}

// errStandby refuses a session on a server that follows another one: it would
// outlive the promotion, and nobody would look where it is.
var errStandby = problem.New(problem.Unavailable, "database_standby", "This PostgreSQL is a standby and takes no writes.").
	WithHint("Name all servers in the connection string, with target_session_attrs=read-write.")

// arrived looks at the server of a connection before it is used.
func (e *engine) arrived(ctx context.Context, conn *pgx.Conn) error {
	now, standby, err := whereabouts(ctx, conn)
	if err != nil {
		return err
	}
	if standby {
		return errStandby
	}
	// Read after the place, so that an act which another server acknowledged since is
	// missed at the most, never held against the wrong one.
	was, records := e.memory.held()
	why, err := judge(ctx, conn, was, now, records, e.memory.lossy)
	if err != nil {
		return err
	}
	if why != "" {
		gone := &store.WentBack{Why: why}
		e.memory.gone.CompareAndSwap(nil, gone)
		return gone
	}
	e.memory.keep(now)
	return nil
}

// judge says why a server is taken for one that has gone back; "" if it is not. A
// timeline that changed beneath a process whose newest acts are there lost nothing of
// its own; every process judges for itself.
func judge(ctx context.Context, conn *pgx.Conn, was, now store.Place, records []string, lossy bool) (string, error) {
	if why := was.Behind(now); why != "" {
		return why, nil
	}
	moved := was.Moved(now)
	if moved != "" && (lossy || !was.Promoted(now)) {
		return moved, nil
	}
	if len(records) == 0 {
		return "", nil // nothing was acknowledged here that could be missing
	}
	var there int
	if err := conn.QueryRow(ctx, `SELECT COUNT(*) FROM audit WHERE id = ANY($1)`, records).Scan(&there); err != nil {
		return "", err
	}
	if lost := len(records) - there; lost > 0 {
		return fmt.Sprintf("of the newest %d acts that were acknowledged, PostgreSQL lacks %d", len(records), lost), nil
	}
	return "", nil
}

// What a server is asked. A managed one may not let an ordinary role ask all of it.
const (
	systemSQL   = `SELECT CAST(system_identifier AS TEXT) FROM pg_control_system()`
	segmentSQL  = `SELECT pg_walfile_name(pg_current_wal_flush_lsn())` // pg_control_checkpoint() lags after a promotion
	positionSQL = `SELECT CAST(pg_current_wal_flush_lsn() - CAST('0/0' AS pg_lsn) AS BIGINT)`
)

// whereabouts asks a server where it is.
func whereabouts(ctx context.Context, conn *pgx.Conn) (p store.Place, standby bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), COALESCE(CAST(CAST(to_regclass('deployment') AS OID) AS BIGINT), 0)`).Scan(&standby, &p.Table)
	if err != nil || standby {
		return store.Place{}, standby, err
	}
	var segment, position string
	err = conn.QueryRow(ctx, `SELECT (`+systemSQL+`), (`+segmentSQL+`), CAST((`+positionSQL+`) AS TEXT)`).Scan(&p.System, &segment, &position)
	if untold(err) {
		for _, one := range []struct {
			text string
			to   *string
		}{{systemSQL, &p.System}, {segmentSQL, &segment}, {`SELECT CAST((` + positionSQL + `) AS TEXT)`, &position}} {
			if err = conn.QueryRow(ctx, one.text).Scan(one.to); untold(err) {
				err = nil
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		return store.Place{}, false, err
	}
	if len(segment) >= 8 {
		p.Timeline, _ = strconv.ParseInt(segment[:8], 16, 64)
	}
	p.Position, _ = strconv.ParseUint(position, 10, 64)
	return p, false, nil
}

// untold reports whether a server refuses to say, or does not know: not privileged, no
// such function, not offered, not in this state.
func untold(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, class := range []string{"42", "0A", "55"} {
		if strings.HasPrefix(pg.Code, class) {
			return true
		}
	}
	return false
}
