package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// openAs opens the deployment as the issuer that the database belongs to. The
// configuration may name that one or to, the one that it is about to get.
func openAs(ctx context.Context, cfg *config.Config, o Options, to string, change func(*config.Config, store.Deployment) error) (*State, error) {
	st, err := openStore(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	dep, err := st.Deployment(ctx)
	if err == nil {
		var serving bool
		if serving, err = st.Serving(ctx); err == nil && serving {
			err = problem.New(problem.Conflict, "server_running", "A server is running on this database. Stop it first.").
				WithHint("After a server was killed, wait a few seconds and try again.")
		}
	} else if errors.Is(err, problem.NotFound) {
		err = errors.New("the database is empty: there is no deployment in it")
	}
	if err = errors.Join(err, st.Close()); err != nil {
		return nil, err
	}
	if cfg.Issuer != dep.Issuer && cfg.Issuer != to {
		return nil, fmt.Errorf("this database belongs to the issuer %s, the configuration names %s, which is neither that one nor %s", dep.Issuer, cfg.Issuer, to)
	}
	c := *cfg
	c.Issuer = dep.Issuer
	if err := change(&c, dep); err != nil {
		return nil, err
	}
	return OpenState(ctx, &c, o)
}

// OpenForRename opens a stopped deployment in order to rename its issuer to to
// (mechanisms I5).
func OpenForRename(ctx context.Context, cfg *config.Config, o Options, to string) (*State, error) {
	return openAs(ctx, cfg, o, to, func(*config.Config, store.Deployment) error { return nil })
}

// Affected is somebody whose passkeys stop working.
type Affected struct {
	account.Person
	Admin    bool // and live: gets a link
	Passkeys int  // how many passkeys stop
}

// RenamePlan is what renaming the issuer would do. Nothing was changed yet.
type RenamePlan struct {
	From, To string
	RPID     string     // relying party id from then on
	Affected []Affected // who is left without a passkey; live administrators without any, too
	Sessions int64      // how many sessions end
	Grants   int64      // how many grants end
}

// PlanRename says what it means to rename the issuer. rpID "" keeps the relying
// party of the configuration if it can be the new issuer's, else it is the new
// issuer's host. problem.Invalid if the issuer is not valid, problem.Conflict
// (nothing_to_rename) if nothing would change.
func (s *State) PlanRename(ctx context.Context, to, rpID string) (RenamePlan, error) {
	p := RenamePlan{From: s.Config.Issuer, To: to, RPID: rpID}
	if rpID == "" {
		if _, _, err := config.CheckIssuer(to, s.Config.RPID); err == nil {
			p.RPID = s.Config.RPID
		}
	}
	rp, loopback, err := config.CheckIssuer(to, p.RPID)
	if err != nil {
		return p, problem.New(problem.Invalid, "issuer_invalid", "The new issuer cannot be used: "+err.Error())
	}
	p.RPID = rp
	if s.Config.Development && !loopback {
		return p, problem.New(problem.Invalid, "issuer_invalid", "A development database has a loopback issuer. To make it a real deployment: countersignd adopt")
	}
	if p.Affected, err = s.affected(ctx, p.RPID); err != nil {
		return p, err
	}
	if p.Sessions, p.Grants, err = s.Store.Issued(ctx); err != nil {
		return p, err
	}
	if p.From == to && len(p.Affected) == 0 {
		return p, problem.Newf(problem.Conflict, "nothing_to_rename", "The issuer is %s already, and every passkey works there. Nothing was changed.", to)
	}
	return p, nil
}

// affected lists, by person, who has no live passkey for the relying party: of
// those who have any, and of live administrators.
func (s *State) affected(ctx context.Context, rpID string) (out []Affected, err error) {
	admins, err := s.administrators(ctx)
	if err != nil {
		return nil, err
	}
	const page = 200
	for after := ""; ; {
		people, err := s.Store.People(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for _, p := range people {
			after = p.ID
			if !p.Node.EndedAt.IsZero() {
				continue
			}
			keys, err := s.Store.PasskeysOf(ctx, p.ID)
			if err != nil {
				return nil, err
			}
			a := Affected{Person: p, Admin: p.Node.Live() && slices.Contains(admins, p.ID), Passkeys: len(keys)}
			works := slices.ContainsFunc(keys, func(k factor.Passkey) bool { return k.RPID == rpID })
			if !works && (a.Admin || len(keys) > 0) {
				out = append(out, a)
			}
		}
		if len(people) < page {
			return out, nil
		}
	}
}

func (s *State) administrators(ctx context.Context) (ids []string, err error) {
	g, err := s.Store.GroupByName(ctx, group.Administrators)
	if err != nil {
		return nil, err
	}
	const page = 200
	for after := ""; ; {
		more, err := s.Store.Members(ctx, g.ID, after, page)
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
		if len(more) < page {
			return ids, nil
		}
		after = more[len(more)-1]
	}
}

// Link is a single-use link of somebody.
type Link struct{ Username, URL string }

// Rename does what the plan says, in one act: the issuer, the URI of the
// management API, the end of everything that was issued, and the links with which
// the administrators enrol a passkey at the new issuer. The state is of no use
// afterwards but to be closed.
func (s *State) Rename(ctx context.Context, p RenamePlan) ([]Link, error) {
	list := []act.Change{store.Rename{From: p.From, To: p.To}, store.EndIssued{Why: "renamed"}}
	parts := []audit.Part{{Body: map[string]any{"from": p.From, "to": p.To, "rp_id": p.RPID}}}
	var links []Link
	for _, a := range p.Affected {
		if !a.Admin {
			continue
		}
		put, url := account.NewReenrolment(p.To, a.ID, s.now())
		list = append(list, put)
		links = append(links, Link{a.Username, url})
		parts = append(parts, audit.Part{Person: a.ID, Body: map[string]any{"given": "link"}})
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.DeploymentRename, Kind: audit.DeploymentRenamed, Refs: act.Refs{Kind: policy.KindOperator},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: list, Parts: parts}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return links, nil
}
