package store

import (
	"context"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// unit is a Unit being compiled: beside the statements, what a miss of each
// statement of must means, and which nodes are touched.
type unit struct {
	Unit
	fails   []func(context.Context) error // parallel to Must; nil: act.ErrStale
	touched []string
	after   []func() // run once the unit is durable
	last    []Stmt   // behind the record
	at      time.Time
	record  string
}

// must adds a statement that has to touch want rows; fail says what it means
// when it does not, nil: what was decided on has changed.
func (u *unit) must(want int64, fail func(context.Context) error, sql string, args ...any) {
	u.Must = append(u.Must, Stmt{SQL: sql, Args: args, Want: want})
	u.fails = append(u.fails, fail)
}

// check adds a query of one integer that has to be want.
func (u *unit) check(want int64, fail func(context.Context) error, sql string, args ...any) {
	u.Must = append(u.Must, Stmt{SQL: sql, Args: args, Want: want, Count: true})
	u.fails = append(u.fails, fail)
}

// then adds a statement that runs when all of must held.
func (u *unit) then(sql string, args ...any) {
	u.Then = append(u.Then, Stmt{SQL: sql, Args: args, Want: Any})
}

// refused is a fail that always means the same problem.
func refused(p *problem.Error) func(context.Context) error {
	return func(context.Context) error { return p }
}

// node adds a new lineage node and its edges.
func (u *unit) node(id string, kind lineage.Kind, parents ...string) {
	u.then(`INSERT INTO node (id, kind, version) VALUES ($1, $2, 1)`, id, int64(kind))
	u.parents(id, parents...)
}

// parents adds edges; empty parents are skipped, existing edges stay.
func (u *unit) parents(id string, parents ...string) {
	for _, p := range parents {
		if p != "" {
			u.then(`INSERT INTO edge (child, parent) VALUES ($1, $2) ON CONFLICT (child, parent) DO NOTHING`, id, p)
		}
	}
}

const bumpSQL = `UPDATE node SET version = version + 1 WHERE id = $1`

// bump moves the version of nodes, so that acts that saw the old state decide
// again.
func (u *unit) bump(ids ...string) {
	for _, id := range ids {
		u.touched = append(u.touched, id)
		u.then(bumpSQL, id)
	}
}

// lock moves the version of the node of a thing and so makes the transactions
// that change what hangs on it wait for each other: the statements after it see
// what the earlier one committed (READ COMMITTED).
func (u *unit) lock(id, what string) {
	u.touched = append(u.touched, id)
	u.must(1, func(context.Context) error { return missing(what) }, bumpSQL, id)
}

// changeOne adds a change of one row that has to exist.
func (u *unit) changeOne(what, sql string, args ...any) {
	u.must(1, func(context.Context) error { return missing(what) }, sql, args...)
}

// change writes any Change: each noun knows its own.
func (s *Store) change(u *unit, c act.Change) error {
	for _, noun := range [...]func(*unit, act.Change) bool{
		s.lineageChange, s.onceChange, s.personChange, s.groupChange, s.clientChange, s.resourceChange,
		s.factorChange, s.sessionChange, s.grantChange, s.familyChange, s.keyChange, s.deploymentChange, s.epochChange, s.rulesetChange, s.rolloutChange, s.publicationChange, s.profileChange, s.reportChange,
		s.noticeChange, s.recoveryChange, s.reviewChange, s.delegationChange, s.issuerChange,
	} {
		if noun(u, c) {
			u.took(c)
			return nil
		}
	}
	return fmt.Errorf("store: no statement writes a %T", c)
}

// conflicts names the problem of each uniqueness constraint.
var conflicts = map[string]*problem.Error{
	"person.username_fold":           problem.New(problem.Conflict, "username_taken", "That user name is taken."),
	"people_group.name":              problem.New(problem.Conflict, "group_taken", "There is already a group of that name."),
	"client.client_id":               problem.New(problem.Conflict, "client_id_taken", "There is already a client with that client_id."),
	"resource.canonical":             problem.New(problem.Conflict, "resource_taken", "There is already a resource with that identifier."),
	"passkey.credential_id":          problem.New(problem.Conflict, "credential_taken", "That passkey is already registered."),
	"setup.one":                      problem.New(problem.Conflict, "setup_done", "This deployment has already been set up."),
	"keyring.purpose":                problem.New(problem.Conflict, "key_taken", "Another process has just made that key."),
	"recovery.person":                problem.New(problem.Conflict, "recovery_open", "A recovery of this account is open already. Finish or cancel that one first."),
	"recovery_confirmation.recovery": recoveryConfirmed,
	"review.actor":                   reviewOpen,
	"publication.after_n":            publicationOpen,
	"deployment.one":                 problem.New(problem.Conflict, "deployment_exists", "This database already belongs to a deployment."),
	"trusted_issuer.active":          problem.New(problem.Conflict, "issuer_taken", "That issuer is trusted already."),
	"risk_report.source":             problem.New(problem.Conflict, "signal_raced", "The same is being reported right now. Send it again."),
	"issuer_link.active":             problem.New(problem.Conflict, "subject_taken", "That subject is somebody already: end that first."),
}

func conflict(u *Unique) error {
	if p, ok := conflicts[u.Constraint]; ok {
		return p.Because(u)
	}
	return problem.New(problem.Conflict, "exists", "That already exists.").Because(u)
}
