package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// IssuerSpec says what an issuer is to be trusted with.
type IssuerSpec struct {
	issuer.Spec
	JWKS KeySet `json:"jwks,omitempty"`
}

// TrustedIssuer is an issuer whose assertions are taken as grants.
type TrustedIssuer struct {
	ID string `json:"id"`
	issuer.Spec
	JWKS      KeySet    `json:"jwks,omitempty"`
	ManagedBy string    `json:"managed_by"`
	CreatedAt time.Time `json:"created_at"`
}

// SubjectSpec says which person a subject of an issuer is to be.
type SubjectSpec struct {
	Subject string `json:"subject" maxLength:"255" doc:"The sub that the issuer's assertions say"`
	Tenant  string `json:"tenant,omitempty" maxLength:"255" doc:"The tenant that an ID-JAG says; only with this one it is the same subject"`
	Person  string `json:"person" maxLength:"64" doc:"User name, or id"`
}

// IssuerSubject is a subject of an issuer, and who that is here.
type IssuerSubject struct {
	ID        string    `json:"id"`
	Subject   string    `json:"subject"`
	Tenant    string    `json:"tenant,omitempty"`
	Person    string    `json:"person" doc:"id"`
	CreatedAt time.Time `json:"created_at"`
}

type (
	issuerIn struct {
		KeyParam
		Body IssuerSpec
	}
	issuerPutIn struct {
		ID      string `path:"id" maxLength:"64"`
		IfMatch string `header:"If-Match" maxLength:"64"`
		Body    IssuerSpec
	}
	issuerOut struct {
		Location string `header:"Location"`
		Tagged
		Body TrustedIssuer
	}
	subjectsIn struct {
		ID string `path:"id" maxLength:"64"`
		PageParams
	}
	subjectIn struct {
		ID string `path:"id" maxLength:"64"`
		KeyParam
		Body SubjectSpec
	}
	subjectEndIn struct {
		ID      string `path:"id" maxLength:"64"`
		Subject string `path:"subject_id" maxLength:"64"`
	}
	subjectOut struct {
		Location string `header:"Location"`
		Body     IssuerSubject
	}
)

func (a *API) issuers() {
	const tag, at, one = "trusted-issuers", "/v1/trusted-issuers", "/v1/trusted-issuers/{id}"
	register(a, operation{
		id: "list-trusted-issuers", method: http.MethodGet, path: at, summary: "List the issuers whose assertions are taken as grants", tag: tag,
		scope: ScopeRead, action: policy.IssuerRead, kind: audit.TokenRefused,
	}, a.listIssuers)
	register(a, operation{
		id: "create-trusted-issuer", method: http.MethodPost, path: at, summary: "Trust an issuer to say who somebody is, within limits", tag: tag,
		scope: ScopeWrite, action: policy.IssuerWrite, kind: audit.IssuerTrusted, status: http.StatusCreated,
	}, a.createIssuer)
	register(a, operation{
		id: "get-trusted-issuer", method: http.MethodGet, path: one, summary: "Read what an issuer is trusted with", tag: tag,
		scope: ScopeRead, action: policy.IssuerRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *idIn) (*issuerOut, error) { return a.showIssuer(ctx, in.ID) })
	register(a, operation{
		id: "replace-trusted-issuer", method: http.MethodPut, path: one, summary: "Change what an issuer is trusted with", tag: tag,
		scope: ScopeWrite, action: policy.IssuerWrite, kind: audit.IssuerUpdated,
	}, a.replaceIssuer)
	register(a, operation{
		id: "remove-trusted-issuer", method: http.MethodDelete, path: one, summary: "Trust an issuer no more: what was given at its word ends", tag: tag,
		scope: ScopeWrite, action: policy.IssuerWrite, kind: audit.IssuerRemoved, status: http.StatusNoContent,
	}, a.removeIssuer)
	register(a, operation{
		id: "list-issuer-subjects", method: http.MethodGet, path: one + "/subjects", summary: "List which of an issuer's subjects is which person", tag: tag,
		scope: ScopeRead, action: policy.IssuerRead, kind: audit.TokenRefused,
	}, a.listSubjects)
	register(a, operation{
		id: "link-issuer-subject", method: http.MethodPost, path: one + "/subjects", summary: "Say which person a subject of an issuer is", tag: tag,
		scope: ScopeWrite, action: policy.IssuerWrite, kind: audit.IssuerLinked, status: http.StatusCreated,
	}, a.linkSubject)
	register(a, operation{
		id: "unlink-issuer-subject", method: http.MethodDelete, path: one + "/subjects/{subject_id}", summary: "End that a subject of an issuer is a person here", tag: tag,
		scope: ScopeWrite, action: policy.IssuerWrite, kind: audit.IssuerParted, status: http.StatusNoContent,
	}, a.unlinkSubject)
}

func (a *API) liveIssuer(ctx context.Context, id string) (issuer.Issuer, error) {
	i, err := a.Registry.TrustedIssuer(ctx, id)
	if err == nil && !i.Node.EndedAt.IsZero() {
		err = problem.New(problem.NotFound, "issuer_not_found", "There is no such issuer.")
	}
	return i, err
}

func (a *API) listIssuers(ctx context.Context, _ *call, in *PageParams) (*pageOut[TrustedIssuer], error) {
	return paged(*in, func(after string, n int) ([]issuer.Issuer, error) { return a.Registry.TrustedIssuers(ctx, after, n) },
		func(i issuer.Issuer) string { return i.ID }, func(i issuer.Issuer) bool { return i.Node.EndedAt.IsZero() },
		func(i issuer.Issuer) (TrustedIssuer, error) { return a.viewIssuer(ctx, i) })
}

func (a *API) showIssuer(ctx context.Context, id string) (*issuerOut, error) {
	i, err := a.liveIssuer(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := a.viewIssuer(ctx, i)
	return &issuerOut{"/v1/trusted-issuers/" + i.ID, Tagged{tag(i.Node)}, v}, err
}

// viewIssuer names clients and resources as the API does.
func (a *API) viewIssuer(ctx context.Context, i issuer.Issuer) (TrustedIssuer, error) {
	v := TrustedIssuer{ID: i.ID, Spec: i.Spec, JWKS: KeySet(i.JWKS), ManagedBy: i.ManagedBy, CreatedAt: i.CreatedAt}
	v.Spec.JWKS, v.Clients, v.Resources = nil, nil, nil
	for _, id := range i.Clients {
		c, err := a.Registry.Client(ctx, id)
		if err != nil {
			return v, err
		}
		v.Clients = append(v.Clients, c.ClientID)
	}
	for _, id := range i.Resources {
		r, err := a.Registry.Resource(ctx, id)
		if err != nil {
			return v, err
		}
		v.Resources = append(v.Resources, r.URI)
	}
	return v, nil
}

// vetted is the issuer that a spec describes.
func (a *API) vetted(ctx context.Context, s IssuerSpec) (issuer.Issuer, error) {
	i := issuer.Issuer{Spec: s.Spec, ManagedBy: "api"}
	i.JWKS, i.Clients, i.Resources = json.RawMessage(s.JWKS), nil, nil
	if i.Name == "" {
		i.Name = i.Spec.Issuer[:min(len(i.Spec.Issuer), 80)]
	}
	if !plainText(i.Name) {
		return i, problem.New(problem.Invalid, "name_invalid", "A name has no control characters and no space at its ends.")
	}
	for _, name := range s.Clients {
		c, err := a.liveClient(ctx, name)
		if err != nil {
			return i, unknownIs(err, problem.Newf(problem.Invalid, "client_unknown", "There is no client %.64q.", name))
		}
		i.Clients = append(i.Clients, c.ID)
	}
	for _, uri := range s.Resources {
		if strings.HasPrefix(uri+"/", a.Issuer+"/") {
			return i, problem.New(problem.Invalid, "reach_invalid", "This server is managed by who signs in here, not at another issuer's word.")
		}
		r, err := a.resourceAt(ctx, uri)
		if err != nil {
			return i, err
		}
		i.Resources = append(i.Resources, r.ID)
	}
	return i, issuer.Check(i.Spec, a.Issuer, a.Do.Ladder)
}

func (a *API) createIssuer(ctx context.Context, c *call, in *issuerIn) (*issuerOut, error) {
	return onlyOnce(ctx, a, c, in.KeyParam, in.Body, a.showIssuer, func(key *idempotency) (*issuerOut, error) {
		i, err := a.vetted(ctx, in.Body)
		if err != nil {
			return nil, err
		}
		i.ID, i.CreatedAt = id.New(id.Issuer), a.now()
		_, err = a.carryOut(ctx, c, change{
			target: slices.Concat(i.Clients, i.Resources), said: aboutIssuer(i),
			make: func(*act.Facts) ([]act.Change, error) {
				return key.remember(i.ID, a.now(), issuer.Create{Issuer: i}), nil
			},
		})
		if err != nil {
			return nil, err
		}
		return a.showIssuer(ctx, i.ID)
	})
}

// aboutIssuer is what a record says of an issuer.
func aboutIssuer(i issuer.Issuer) map[string]any {
	return map[string]any{"issuer": i.ID, "name": i.Name, "iss": i.Spec.Issuer}
}

func (a *API) replaceIssuer(ctx context.Context, c *call, in *issuerPutIn) (*issuerOut, error) {
	have, err := a.liveIssuer(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, have.Node)
	if err != nil {
		return nil, err
	}
	if in.Body.Spec.Issuer != have.Spec.Issuer {
		return nil, problem.New(problem.Invalid, "issuer_fixed", "An issuer's iss does not change: subjects are known by it.")
	}
	i, err := a.vetted(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	i.ID = have.ID
	_, err = a.carryOut(ctx, c, change{
		target: slices.Concat([]string{i.ID}, i.Clients, i.Resources), match: m, said: aboutIssuer(i),
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{issuer.Update{Issuer: i}}, nil },
	})
	if err != nil {
		return nil, err
	}
	return a.showIssuer(ctx, i.ID)
}

func (a *API) removeIssuer(ctx context.Context, c *call, in *endIn) (*none, error) {
	i, err := a.liveIssuer(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, i.Node)
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{i.ID}, match: m, said: aboutIssuer(i),
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{issuer.Remove{ID: i.ID}}, nil },
	})
	return nil, err
}

func viewLink(l issuer.Link) (IssuerSubject, error) {
	return IssuerSubject{ID: l.ID, Subject: l.Subject, Tenant: l.Tenant, Person: l.Person, CreatedAt: l.CreatedAt}, nil
}

func (a *API) listSubjects(ctx context.Context, _ *call, in *subjectsIn) (*pageOut[IssuerSubject], error) {
	i, err := a.liveIssuer(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return paged(in.PageParams, func(after string, n int) ([]issuer.Link, error) { return a.Registry.Links(ctx, i.ID, after, n) },
		func(l issuer.Link) string { return l.ID }, func(l issuer.Link) bool { return l.Node.EndedAt.IsZero() }, viewLink)
}

func (a *API) showLink(ctx context.Context, id string) (*subjectOut, error) {
	l, err := a.Registry.Link(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := viewLink(l)
	return &subjectOut{"/v1/trusted-issuers/" + l.Issuer + "/subjects/" + l.ID, v}, err
}

// somebody finds a live person by user name or id.
func (a *API) somebody(ctx context.Context, name string) (account.Person, error) {
	unknown := problem.Newf(problem.Invalid, "person_unknown", "There is nobody with the user name or id %.64q.", name)
	p, err := a.Directory.PersonByUsername(ctx, name)
	if problem.Refusal(err) {
		p, err = a.Directory.Person(ctx, name)
	}
	if err == nil && !p.Node.EndedAt.IsZero() {
		return p, unknown
	}
	return p, unknownIs(err, unknown)
}

func (a *API) linkSubject(ctx context.Context, c *call, in *subjectIn) (*subjectOut, error) {
	i, err := a.liveIssuer(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return onlyOnce(ctx, a, c, in.KeyParam, in.Body, a.showLink, func(key *idempotency) (*subjectOut, error) {
		p, err := a.somebody(ctx, in.Body.Person)
		if err != nil {
			return nil, err
		}
		l := issuer.Link{ID: id.New(id.Link), Issuer: i.ID, Tenant: in.Body.Tenant, Subject: in.Body.Subject, Person: p.ID, CreatedAt: a.now()}
		if err := issuer.CheckLink(l); err != nil {
			return nil, err
		}
		_, err = a.carryOut(ctx, c, change{
			target: []string{i.ID, p.ID}, whom: p.ID, said: map[string]any{"name": i.Name, "link": l.ID}, general: map[string]any{"issuer": i.ID},
			make: func(*act.Facts) ([]act.Change, error) {
				return key.remember(l.ID, a.now(), issuer.Join{Link: l}), nil
			},
		})
		if err != nil {
			return nil, err
		}
		return a.showLink(ctx, l.ID)
	})
}

func (a *API) unlinkSubject(ctx context.Context, c *call, in *subjectEndIn) (*none, error) {
	i, err := a.liveIssuer(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	l, err := a.Registry.Link(ctx, in.Subject)
	if err == nil && (l.Issuer != i.ID || !l.Node.EndedAt.IsZero()) {
		err = problem.New(problem.NotFound, "subject_not_found", "There is no such subject.")
	}
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{l.ID}, whom: l.Person, said: map[string]any{"name": i.Name, "link": l.ID}, general: map[string]any{"issuer": i.ID},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{issuer.Part{ID: l.ID}}, nil },
	})
	return nil, err
}
