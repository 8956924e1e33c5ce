package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Factors reads people's factors, and makes those of imported passwords.
type Factors interface {
	FactorsOf(ctx context.Context, person string) ([]factor.Factor, error)
	Allowed(context.Context) (factor.Kinds, error)
}

// Imports makes a password factor of a hash from another system.
type Imports interface {
	Of(person string, h factor.Hash, now time.Time) (factor.Secret, error)
}

// Factor is a way to sign in. What it is verified with is told nobody.
type Factor struct {
	ID             string     `json:"id"`
	Kind           string     `json:"kind" doc:"passkey, password, totp, …"`
	Name           string     `json:"name"`
	CreatedAt      time.Time  `json:"created_at"`
	LastUsedAt     *time.Time `json:"last_used_at,omitempty"`
	ProbationUntil *time.Time `json:"probation_until,omitempty" doc:"Until then it counts for two factors and no more"`
}

// FactorKind is a kind of factor that an administrator lets people use, or not.
type FactorKind struct {
	Kind    string `json:"kind" enum:"password,totp"`
	Allowed bool   `json:"allowed"`
}

type (
	factorsIn struct {
		Person string `query:"person" maxLength:"64" doc:"Somebody else's, for administrators with admin:read"`
		PageParams
	}
	removeFactorIn struct {
		Person string `path:"person" maxLength:"64"`
		ID     string `path:"id" maxLength:"64"`
		Weaken bool   `query:"weaken" doc:"Remove it although it is their last passkey and a password with a code is left"`
	}
	kindsOut struct {
		Body struct {
			Items []FactorKind `json:"items" nullable:"false"`
		}
	}
	kindIn struct {
		Kind string `path:"kind" maxLength:"32" doc:"password or totp; a passkey is always allowed"`
		Body struct {
			Allowed bool `json:"allowed"`
		}
	}
	kindOut  struct{ Body FactorKind }
	importIn struct {
		Body struct {
			Name         string   `json:"name" maxLength:"320"`
			Username     string   `json:"username" maxLength:"64"`
			Email        string   `json:"email,omitempty" maxLength:"254"`
			Groups       []string `json:"groups,omitempty" maxItems:"20" doc:"Names; not the administrators'"`
			PasswordHash string   `json:"password_hash" maxLength:"512" doc:"bcrypt, or argon2, scrypt or PBKDF2 in PHC string form"`
		}
	}
)

func (a *API) factors() {
	const tag = "factors"
	register(a, operation{
		id: "list-factors", method: http.MethodGet, path: "/v1/factors", summary: "List ways to sign in", tag: tag,
		scope: ScopeSelf, action: policy.SelfRead, kind: audit.TokenRefused, own: true,
	}, a.listFactors)
	register(a, operation{
		id: "remove-factor", method: http.MethodDelete, path: "/v1/people/{person}/factors/{id}", tag: tag,
		summary: "Take a way to sign in from somebody, with every session that was begun with it",
		scope:   ScopeWrite, action: policy.FactorRevoke, kind: audit.FactorRemoved, status: http.StatusNoContent,
	}, a.removeFactor)
	register(a, operation{
		id: "list-factor-kinds", method: http.MethodGet, path: "/v1/factor-kinds", summary: "Say which ways to sign in people may use", tag: tag,
		scope: ScopeRead, action: policy.PersonRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, _ *none) (*kindsOut, error) {
		on, err := a.Factors.Allowed(ctx)
		out := &kindsOut{}
		for _, k := range []factor.Kind{factor.KindPassword, factor.KindTOTP} {
			out.Body.Items = append(out.Body.Items, FactorKind{string(k), on[k]})
		}
		return out, err
	})
	register(a, operation{
		id: "set-factor-kind", method: http.MethodPut, path: "/v1/factor-kinds/{kind}", summary: "Let people use a way to sign in, or not", tag: tag,
		scope: ScopeWrite, action: policy.FactorAllow, kind: audit.FactorAllowed, status: http.StatusOK,
	}, a.setFactorKind)
	register(a, operation{
		id: "import-person", method: http.MethodPost, path: "/v1/people", tag: "people",
		summary: "Make a person who comes from another system with the hash of their password",
		scope:   ScopeWrite, action: policy.PersonImport, kind: audit.FactorImported, status: http.StatusCreated,
	}, a.importPerson)
}

func (a *API) listFactors(ctx context.Context, c *call, in *factorsIn) (*pageOut[Factor], error) {
	person := c.Person.ID
	if in.Person != "" && in.Person != person {
		if err := a.may(ctx, c, policy.PersonRead, audit.TokenRefused, "", ScopeRead); err != nil {
			return nil, err
		}
		p, err := a.Directory.Person(ctx, in.Person)
		if err != nil {
			return nil, err
		}
		person = p.ID
	}
	all, err := a.Factors.FactorsOf(ctx, person)
	if err != nil {
		return nil, err
	}
	key := func(f factor.Factor) string { return f.ID }
	return paged(in.PageParams, within(all, key, false), key, nil, func(f factor.Factor) (Factor, error) {
		v := Factor{ID: f.ID, Kind: string(f.Kind), Name: f.Name, CreatedAt: f.CreatedAt}
		if !f.UsedAt.IsZero() {
			v.LastUsedAt = &f.UsedAt
		}
		if a.now().Before(f.ProbationUntil) {
			v.ProbationUntil = &f.ProbationUntil
		}
		return v, nil
	})
}

// removeFactor takes a factor from somebody else. The last way in stays: who has
// lost it is let back in by recovery, not by having nothing.
func (a *API) removeFactor(ctx context.Context, c *call, in *removeFactorIn) (*none, error) {
	p, err := a.other(ctx, c, in.Person)
	if err != nil {
		return nil, err
	}
	all, err := a.Factors.FactorsOf(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(f factor.Factor) bool { return f.ID == in.ID })
	if i < 0 {
		return nil, problem.New(problem.NotFound, "factor_not_found", "They have no such passkey or other way to sign in.")
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{in.ID}, whom: p.ID, said: map[string]any{"with": all[i].Kind.Word(), "name": all[i].Name, "factor": in.ID},
		make: func(*act.Facts) ([]act.Change, error) {
			return []act.Change{factor.Remove{ID: in.ID, Person: p.ID, Weaken: in.Weaken}}, nil
		},
	})
	return nil, err
}

func (a *API) setFactorKind(ctx context.Context, c *call, in *kindIn) (*kindOut, error) {
	k, err := factor.CheckAllow(in.Kind)
	if err != nil {
		return nil, err
	}
	ch := change{
		general: map[string]any{"with": k.Word()},
		make: func(*act.Facts) ([]act.Change, error) {
			return []act.Change{factor.Allow{Kind: k, On: in.Body.Allowed}}, nil
		},
	}
	if !in.Body.Allowed {
		ch.kind = audit.FactorForbidden
	}
	if _, err := a.carryOut(ctx, c, ch); err != nil {
		return nil, err
	}
	return &kindOut{FactorKind{string(k), in.Body.Allowed}}, nil
}

// importPerson makes a person with the hash of a password. They add the second
// factor on their first way in.
func (a *API) importPerson(ctx context.Context, c *call, in *importIn) (*personOut, error) {
	p := account.Person{ID: id.New(id.Person), Subject: id.Random(id.Person), CreatedAt: a.now()}
	var err error
	if p.Name, err = account.CheckName(in.Body.Name); err != nil {
		return nil, err
	}
	if p.Username, err = account.CheckUsername(in.Body.Username); err != nil {
		return nil, err
	}
	if p.Email, err = account.CheckEmail(in.Body.Email); err != nil {
		return nil, err
	}
	h, err := factor.ParseHash(strings.TrimSpace(in.Body.PasswordHash))
	if err != nil {
		return nil, problem.New(problem.Invalid, "password_hash_invalid", "That is no password hash of a kind that is known here, or its cost is out of bounds.").
			WithHint("Known are bcrypt ($2b$…), and $argon2id$…, $scrypt$… and $pbkdf2-sha256$… in PHC string form.").Because(err)
	}
	pw, err := a.Imports.Of(p.ID, h, p.CreatedAt)
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, name := range in.Body.Groups {
		if name == policy.Administrators {
			return nil, problem.New(problem.Denied, "group_denied", "Nobody becomes an administrator by being imported.").
				WithHint("Invite them, or add them to the group once they have a passkey.")
		}
		g, err := a.groupNamed(ctx, name)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g.ID)
	}
	_, err = a.carryOut(ctx, c, change{
		whom: p.ID, said: map[string]any{"with": "password", "name": p.Name, "factor": pw.ID}, target: groups,
		make: func(*act.Facts) ([]act.Change, error) {
			return []act.Change{account.Create{Person: p, Groups: groups}, factor.Add{Secret: pw}}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return a.showPerson(ctx, p.ID)
}
