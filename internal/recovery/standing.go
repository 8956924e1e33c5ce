package recovery

import (
	"context"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Standings reads what those who help are judged by.
type Standings interface {
	Person(ctx context.Context, id string) (account.Person, error)
	GroupByName(ctx context.Context, name string) (group.Group, error)
	GroupsOf(ctx context.Context, person string) ([]group.Group, error)
	MemberSince(ctx context.Context, group, person string) (at time.Time, ok bool, err error)
	RecoveriesOf(ctx context.Context, person string) ([]Recovery, error)
	Confirmations(ctx context.Context, id string) ([]Confirmation, error)
}

// MayConfirm says why an administrator may not confirm a recovery of a person
// now, nil if they may; see Confirmer.Eligible. That they are an administrator is
// policy's.
func MayConfirm(ctx context.Context, s Standings, by, person string, now time.Time) error {
	admins, err := s.GroupByName(ctx, group.Administrators)
	if err != nil {
		return err
	}
	c := Confirmer{ID: by}
	if c.AdminSince, _, err = s.MemberSince(ctx, admins.ID, by); err != nil {
		return err
	}
	list, err := s.RecoveriesOf(ctx, by)
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.State == Completed && r.EndedAt.After(c.RecoveredAt) {
			c.RecoveredAt = r.EndedAt
		}
	}
	return c.Eligible(person, now)
}

// Confirming judges whether an administrator may confirm r now (see MayConfirm and
// Stands), and gives the path that it follows then.
func (s Settings) Confirming(ctx context.Context, dir Standings, r Recovery, by string, now time.Time) (Path, error) {
	err := MayConfirm(ctx, dir, by, r.Person, now)
	if err == nil {
		err = s.Stands(ctx, dir, r, now)
	}
	if err != nil {
		return Path{}, err
	}
	return s.PathOf(ctx, dir, r.Method, r.Person)
}

// ForLive refuses a confirmation for somebody who is disabled. nodes are those of the
// act.
func (r Recovery) ForLive(nodes []lineage.Node) error {
	if slices.ContainsFunc(nodes, func(n lineage.Node) bool { return n.ID == r.Person && n.Live() }) {
		return nil
	}
	return problem.New(problem.Denied, "person_disabled", "This account is disabled.").WithHint("Enable it first.")
}

// PathOf is the path of a method for a person's account.
func (s Settings) PathOf(ctx context.Context, dir Standings, m Method, person string) (Path, error) {
	groups, err := dir.GroupsOf(ctx, person)
	p, _ := s.Path(m, in(groups, group.Administrators))
	return p, err
}

func in(groups []group.Group, name string) bool {
	return slices.ContainsFunc(groups, func(g group.Group) bool { return g.Name == name && g.Node.Live() })
}

var helperGone = problem.New(problem.Denied, "helper_gone", "Whoever gave this pass can't give one any more.").WithHint("Ask for another one.")

// MayGive says why somebody may not give a person a temporary pass now, nil if
// they may: they are live, an administrator or a helper, and the person is not
// above them; see MayHelp. A pass is worth no more than its maker's standing when
// it is used.
func MayGive(ctx context.Context, s Standings, helper, person string) error {
	h, err := s.Person(ctx, helper)
	if err != nil && !problem.Refusal(err) {
		return err
	}
	if err != nil || !h.Node.Live() {
		return helperGone
	}
	theirs, err := s.GroupsOf(ctx, helper)
	if err != nil {
		return err
	}
	persons, err := s.GroupsOf(ctx, person)
	if err != nil {
		return err
	}
	administers := in(theirs, group.Administrators)
	if !administers && !in(theirs, group.Helpers) {
		return helperGone
	}
	return MayHelp(helper, person, administers, in(persons, group.Administrators), in(persons, group.Helpers))
}

// Opened is a recovery that an administrator opens for somebody, and confirms by
// that. claim is the code of the browser that asked.
func Opened(person, by, claim, reason string, now time.Time) Recovery {
	r := New(ByPeople, person, now)
	r.Claim, r.Reason, r.OpenedBy, r.Confirmed, r.ExpiresAt = claim, reason, by, 1, now.Add(Window)
	return r
}

// ConfirmedBy is a further confirmation of r, and r as it is when that one makes
// the quorum. path is that of the account.
func (r Recovery) ConfirmedBy(by string, path Path, now time.Time) (Confirm, Recovery) {
	r.ReadyAt, r.ExpiresAt = path.Times(now)
	return Confirm{ID: r.ID, By: by, Quorum: Quorum, ReadyAt: r.ReadyAt, ExpiresAt: r.ExpiresAt}, r
}

// Given is the recovery that a temporary pass stands for: to be used within
// valid, for a session of at most lasts.
func Given(person, by, reason string, valid, lasts time.Duration, now time.Time) Recovery {
	r := New(ByPass, person, now)
	r.Reason, r.OpenedBy, r.ReadyAt, r.ExpiresAt, r.Lasts = reason, by, now, now.Add(valid), lasts
	return r
}

// Stands says why a recovery is worth less at now than when it was begun or
// confirmed, nil if it is not: a confirmation counts as long as who gave it is a
// live administrator, and an account that became an administrator's meanwhile
// waits as one.
func (s Settings) Stands(ctx context.Context, dir Standings, r Recovery, now time.Time) error {
	given, err := dir.Confirmations(ctx, r.ID)
	if err != nil {
		return err
	}
	since := r.StartedAt
	for _, c := range given {
		if c.At.After(since) {
			since = c.At
		}
		p, err := dir.Person(ctx, c.By)
		if err != nil && !problem.Refusal(err) {
			return err
		}
		var groups []group.Group
		if err == nil {
			if groups, err = dir.GroupsOf(ctx, c.By); err != nil {
				return err
			}
		}
		if err != nil || !p.Node.Live() || !in(groups, group.Administrators) {
			return problem.New(problem.Denied, "confirmer_gone", "Somebody who confirmed this recovery is no administrator any more.").
				WithHint("Ask the administrators to stop it and to open another one.")
		}
	}
	path, err := s.PathOf(ctx, dir, r.Method, r.Person)
	if err != nil {
		return err
	}
	if now.Before(since.Add(path.Wait)) && !r.ReadyAt.IsZero() {
		return problem.New(problem.Denied, "recovery_longer", "This account has become an administrator's, so its recovery waits longer.").
			WithHint("Come back a day after it was begun or confirmed.")
	}
	return nil
}

// Judged splits a check that reads into the two places of an act: prepare reads,
// before each try, and refusal gives what it found, so that being refused is
// recorded like any other refusal.
func Judged(check func(context.Context) error) (prepare func(context.Context) error, refusal func() error) {
	var found error
	return func(ctx context.Context) error {
		found = check(ctx)
		if !problem.Refusal(found) {
			return found
		}
		return nil
	}, func() error { return found }
}
