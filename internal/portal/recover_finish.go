package portal

import (
	"context"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
)

// ready judges whether the recovery of this browser can be completed now; the
// act decides again.
func (s *Server) ready(r *http.Request) (rec recovery.Recovery, p account.Person, ok bool, err error) {
	rec, p, ok, err = s.begun(r)
	if err != nil || !ok {
		return rec, p, false, err
	}
	st, err := s.stateOf(r.Context(), rec)
	if err != nil || st != view.RecoverReady || !p.Node.Live() {
		return rec, p, false, err
	}
	return rec, p, true, s.Recovery.Settings.Stands(r.Context(), s.Store, rec, s.now())
}

// recoverPasskey is where a recovery ends: a new passkey is made.
func (s *Server) recoverPasskey(w http.ResponseWriter, r *http.Request) error {
	rec, p, ok, err := s.ready(r)
	if err != nil {
		return err
	}
	if !ok {
		return seeOther(w, r, statusPath)
	}
	return s.show(w, r, nil, "", view.EnrolPasskey{
		Reason: view.EnrolFirst, Account: p.Username, Name: view.Input{Value: browserName(r.UserAgent())},
		Ceremony: view.Ceremony{Options: recoverPath + "/options", Finish: recoverPath + "/finish"}, Deadline: view.Deadline{At: rec.ExpiresAt},
	})
}

func (s *Server) recoverOptions(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	rec, p, ok, err := s.ready(r)
	if err != nil {
		return err
	}
	if !ok {
		return linkOver("recovery")
	}
	if _, err := passkeyName(b.get("passkey_name")); err != nil {
		return err
	}
	h, err := s.holder(r.Context(), p)
	if err != nil {
		return err
	}
	return s.enrolOptions(w, r, sealedRecover+rec.ID, p.ID, h)
}

// recoverFinish ends a recovery: the passkey, on probation, a session with it, and
// the end of everything else of the person's are one act. Of two that come at
// once one happens.
func (s *Server) recoverFinish(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	rec, p, ok, err := s.ready(r)
	if err != nil {
		return err
	}
	if !ok {
		return location(w, statusPath)
	}
	name, err := passkeyName(b.get("passkey_name"))
	if err != nil {
		return err
	}
	h, err := s.holder(r.Context(), p)
	if err != nil {
		return err
	}
	bound, err := s.bindTo(w, r, sealedRecover+rec.ID, p.ID)
	if err != nil {
		return err
	}
	now := s.now()
	key, proof, challenge, err := s.Ceremony.Enrolled(h, p.ID, bound, b.Credential, now)
	if err != nil {
		s.refusedQuietly(policy.RecoveryComplete, err)
		return err
	}
	key.Name, key.ProbationUntil = name, now.Add(s.Recovery.Settings.OrDefaults().Probation)
	proof.Cap, proof.CapUntil = recovery.Cap, key.ProbationUntil
	open, finish, err := s.newSession(r, p.ID, []assurance.Proof{proof})
	if err != nil {
		return err
	}
	refs := act.Refs{Kind: policy.KindAnonymous, Presented: true, Under: []string{p.ID}}
	if open.NewDevice == nil {
		refs.Under = append(refs.Under, open.Device)
	}
	given, err := s.Store.Confirmations(r.Context(), rec.ID)
	if err != nil {
		return err
	}
	for _, c := range given { // guarded: a change of their standing decides again
		refs.Target = append(refs.Target, c.By)
	}
	prepare, refusal := recovery.Judged(func(ctx context.Context) error { return s.Recovery.Settings.Stands(ctx, s.Store, rec, now) })
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.RecoveryComplete, Kind: audit.RecoveryCompleted, Refs: refs, Spend: []once.Spend{challenge}, Quiet: true, Prepare: prepare,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			if err := refusal(); err != nil {
				return act.Effect{}, err
			}
			return act.Effect{
				Changes: []act.Change{
					recovery.Complete{ID: rec.ID, Person: p.ID, Made: key.ID},
					recovery.EndAll{Person: p.ID, Why: "recovered"},
					recovery.BurnCodes{Person: p.ID},
					factor.Enrol{Passkey: key},
					open,
				},
				Leaf: open.ID, Parts: []audit.Part{{Person: p.ID, Body: rec.Said(
					"session", open.ID, "device", open.Device, "factor", key.ID, "name", key.Name, "network", open.Network,
					"with", methodWords[rec.Method], "probation_until", key.ProbationUntil.Format(time.RFC3339))}},
			}, nil
		},
	})
	if code := problem.CodeOf(err); code == "recovery_over" || code == "recovery_superseded" || code == "recovery_waiting" {
		return location(w, statusPath) // which says so
	}
	if err != nil {
		return spentAsExpired(err)
	}
	s.clearCookie(w, cookieRecover)
	finish(w)
	return location(w, view.PathRecovery+"?done=recovered")
}

// methodWords are what a record says that somebody got back in with.
var methodWords = map[recovery.Method]string{
	recovery.ByCode: "a recovery code", recovery.ByPeople: "the help of two administrators", recovery.ByPass: "a temporary pass",
}

// passPosted signs somebody in with a temporary pass, once: a session of two
// factors at most, which ends after a few hours whatever happens.
func (s *Server) passPosted(w http.ResponseWriter, r *http.Request) error {
	p, v, instead, err := s.guessed(r, once.TemporaryPass)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	ref, err := recovery.ReadPass(v)
	if err != nil {
		return err
	}
	rec, err := s.Store.Recovery(r.Context(), ref)
	if err != nil {
		return err
	}
	now := s.now()
	until := now.Add(rec.Lasts)
	proof := assurance.Proof{Method: assurance.TemporaryPass, Subject: p.ID, At: now.Truncate(time.Microsecond), Until: until, Cap: recovery.Cap}
	open, finish, err := s.newSession(r, p.ID, []assurance.Proof{proof})
	if err != nil {
		return err
	}
	if open.ExpiresAt.After(until) {
		open.ExpiresAt = until
	}
	refs := act.Refs{Kind: policy.KindPerson, Actor: p.ID, Under: []string{rec.OpenedBy}}
	if open.NewDevice == nil {
		refs.Under = append(refs.Under, open.Device)
	}
	prepare, refusal := recovery.Judged(func(ctx context.Context) error { return recovery.MayGive(ctx, s.Store, rec.OpenedBy, p.ID) })
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.SessionOpen, Kind: audit.PassUsed, Refs: refs, Proofs: []assurance.Proof{proof},
		Spend:   []once.Spend{{Purpose: once.TemporaryPass, Key: v.Key, Ref: open.ID}},
		Prepare: prepare,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			if err := refusal(); err != nil {
				return act.Effect{}, err
			}
			return act.Effect{
				Changes: []act.Change{recovery.Complete{ID: rec.ID, Person: p.ID, Made: open.ID}, open}, Leaf: open.ID,
				Parts: []audit.Part{{Person: p.ID, Body: rec.Said("session", open.ID, "device", open.Device, "with", "pass", "network", grant.NetworkOf(s.ClientAddr(r)))}},
			}, nil
		},
	})
	if lost(err, once.TemporaryPass) || problem.CodeOf(err) == "recovery_over" {
		return s.show(w, r, nil, "", s.codeForm(true, view.Input{Value: p.Username}, view.Input{Error: errNotTogether.Detail}))
	}
	if err != nil {
		return err
	}
	finish(w)
	return seeOther(w, r, view.PathHome)
}
