package admin

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// ScopePolicies is by which a service may hand in policies, read those that there are,
// and carry out what was signed.
const ScopePolicies = "policies"

// PolicySignature is a person's WebAuthn assertion over a publication: what anybody
// needs to verify it again. The members that are bytes are base64url.
type PolicySignature struct {
	At                time.Time `json:"at"`
	Until             time.Time `json:"until" doc:"It put nothing in force from then on"`
	Credential        string    `json:"credential" doc:"The passkey, by id"`
	Ceremony          string    `json:"ceremony" doc:"Canonical JSON: who signed what, where and when"`
	ClientData        string    `json:"client_data" doc:"clientDataJSON; its challenge commits to the ceremony and to the set, the version and the plan"`
	AuthenticatorData string    `json:"authenticator_data"`
	Signature         string    `json:"signature"`
	Key               string    `json:"key" doc:"The passkey's public key (COSE)"`
}

// SignedVersion is what a version and a rollout have of the publication that was signed.
type SignedVersion struct {
	Publication  string           `json:"publication,omitempty" doc:"That was signed; absent where it came into force in another way"`
	SignedBy     string           `json:"signed_by,omitempty" doc:"A person"`
	CarriedOutBy string           `json:"carried_out_by,omitempty" doc:"The person or service that put it in force, once signed"`
	Signature    *PolicySignature `json:"signature,omitempty" doc:"Absent in lists"`
}

func viewSigned(publication, by, carrier string, s *ruleset.Signature) SignedVersion {
	if publication == "" {
		return SignedVersion{}
	}
	return SignedVersion{Publication: publication, SignedBy: by, CarriedOutBy: carrier, Signature: viewSignature(s)}
}

func viewSignature(s *ruleset.Signature) *PolicySignature {
	if s == nil {
		return nil
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return &PolicySignature{
		At: s.At, Until: s.Until, Credential: s.Credential, Ceremony: b64(s.Ceremony), ClientData: b64(s.ClientData),
		AuthenticatorData: b64(s.AuthenticatorData), Signature: b64(s.Signature), Key: b64(s.Key),
	}
}

// Publication is a set that somebody wants in force, which a person has to sign. Its
// source is absent in lists, and where it was just handed in.
type Publication struct {
	ID          string           `json:"id" example:"pub_01JD…"`
	State       string           `json:"state" enum:"unsigned,signed,carried_out,withdrawn,ended,expired,moved" doc:"ended: its signature counts no more; moved: another version is in force by now"`
	Hash        string           `json:"hash"`
	After       int64            `json:"after" doc:"The version in force that it follows"`
	Waves       []WaveSpec       `json:"waves,omitempty" doc:"Of a rollout; absent: in force at once"`
	Plan        string           `json:"plan,omitempty" doc:"The hash of the waves, as it is signed"`
	Note        string           `json:"note,omitempty"`
	SubmittedBy string           `json:"submitted_by" doc:"A person or a service"`
	SubmittedAt time.Time        `json:"submitted_at"`
	ExpiresAt   time.Time        `json:"expires_at"`
	SignURI     string           `json:"sign_uri,omitempty" doc:"Where a person looks at it and signs; absent unless it is unsigned"`
	SignedBy    string           `json:"signed_by,omitempty"`
	Signature   *PolicySignature `json:"signature,omitempty"`
	Version     int64            `json:"version,omitempty" doc:"That it became"`
	Rollout     int64            `json:"rollout,omitempty" doc:"That it became"`
	Record      string           `json:"record" doc:"Of the act that handed it in, in the log"`
	Schema      string           `json:"schema,omitempty"`
	Files       []PolicyFile     `json:"files,omitempty"`

	Exceptions []PolicyException `json:"exceptions,omitempty"`
	Floors     []PolicyFile      `json:"floors,omitempty"`

	Warnings []PolicyWarning `json:"warnings,omitempty" doc:"Where it was just handed in: where it waits for what cannot happen"`
}

type publicationOut struct{ Body Publication }

func (a *API) publications() {
	const tag = "policies"
	register(a, operation{
		id: "list-publications", method: http.MethodGet, path: "/v1/publications", summary: "List what was handed in to be signed, newest first", tag: tag,
		scope: ScopeRead, service: ScopePolicies, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, a.listPublications)
	register(a, operation{
		id: "get-publication", method: http.MethodGet, path: "/v1/publications/{id}", summary: "Read a set that was handed in to be signed, with its signature", tag: tag,
		scope: ScopeRead, service: ScopePolicies, action: policy.PolicyRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *idIn) (*publicationOut, error) {
		return a.readPublication(ctx, in.ID)
	})
	register(a, operation{
		id: "withdraw-publication", method: http.MethodPost, path: "/v1/publications/{id}/withdraw", tag: tag,
		summary: "Withdraw what waits to be signed or carried out; a service, what it handed in itself",
		scope:   ScopeWrite, service: ScopePolicies, action: policy.PolicySubmit, kind: audit.PolicyWithdrawn, status: http.StatusOK,
	}, a.withdrawPublication)
}

func (a *API) viewPublication(p *ruleset.Publication, head int64) Publication {
	shown := viewPolicy(ruleset.Version{Source: p.Source, Of: ruleset.NoVersion})
	out := Publication{
		ID: p.ID, State: p.Standing(head, a.now()), Hash: p.Hash, After: p.After, Plan: p.Plan(), Note: p.Note, SubmittedBy: p.By, SubmittedAt: p.At,
		ExpiresAt: p.Until, Signature: viewSignature(p.Signed), Record: p.Record,
		Schema: shown.Schema, Files: shown.Files, Exceptions: shown.Exceptions, Floors: shown.Floors,
	}
	for _, w := range p.Waves {
		out.Waves = append(out.Waves, WaveSpec{Groups: w.Groups, Everybody: w.Rest, From: w.From, Prompts: w.Budget.Prompts, Denials: w.Budget.Denials})
	}
	if out.State == string(ruleset.Unsigned) {
		out.SignURI = a.Issuer + ruleset.SignPath(p.ID)
	}
	if p.Signed != nil {
		out.SignedBy = p.Signed.By
	}
	if p.Waves == nil {
		out.Version = p.Became
	} else {
		out.Rollout = p.Became
	}
	return out
}

func (a *API) listPublications(ctx context.Context, _ *call, in *PageParams) (*pageOut[Publication], error) {
	head, err := a.Policies.PolicyHead(ctx)
	if err != nil {
		return nil, err
	}
	return paged(*in, func(before string, n int) ([]ruleset.Publication, error) {
		return a.Desk.Publications.Publications(ctx, before, n)
	},
		func(p ruleset.Publication) string { return p.ID }, nil,
		func(p ruleset.Publication) (Publication, error) {
			v := a.viewPublication(&p, head)
			v.Signature = nil
			return v, nil
		})
}

func (a *API) readPublication(ctx context.Context, id string) (*publicationOut, error) {
	p, err := a.Desk.Publications.Publication(ctx, id)
	if err != nil {
		return nil, err
	}
	head, err := a.Policies.PolicyHead(ctx)
	if err != nil {
		return nil, err
	}
	return &publicationOut{a.viewPublication(&p, head)}, nil
}

func (a *API) withdrawPublication(ctx context.Context, c *call, in *idIn) (*publicationOut, error) {
	p, err := a.Desk.Publications.Publication(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{general: p.Said(), make: func(*act.Facts) ([]act.Change, error) {
		return []act.Change{ruleset.Withdraw{ID: p.ID}}, p.MayWithdraw(c.who())
	}})
	if err != nil {
		return nil, err
	}
	return a.readPublication(ctx, p.ID)
}

// who is the caller, by id and kind.
func (c *call) who() (id, kind string) {
	if c.machine() {
		return c.Service.ID, policy.KindService
	}
	return c.Person.ID, policy.KindPerson
}

// putForward is what becomes of a set that somebody wants in force, with the waves of a
// rollout or, where they are nil, at once: signed, it is carried out; else it waits to be
// signed. The same again is the same.
func (a *API) putForward(ctx context.Context, c *call, spec PolicySpec, waves []policy.Wave) (*answerOut, error) {
	src, err := spec.source()
	if err != nil {
		return nil, err
	}
	p := ruleset.Publication{After: spec.After, Hash: src.Hash(), Source: src, Waves: waves, Note: spec.Note}
	p.By, p.ByKind = c.who()
	set, err := a.Desk.Check(ctx, &p, a.now())
	if err != nil {
		return nil, err
	}
	head, err := a.Policies.PolicyHead(ctx)
	if err != nil {
		return nil, err
	}
	open, ok, err := a.Desk.Publications.OpenPublication(ctx, p.After, p.Hash, p.Plan(), a.now())
	if err == nil && (!ok || p.After != head) {
		open, err = a.submit(ctx, c, p)
	}
	switch {
	case err != nil:
		return nil, err
	case open.State == ruleset.Signed:
		return a.carry(ctx, c, &open, set)
	}
	open.Source = policy.Source{} // whoever sent it has it
	out := a.viewPublication(&open, head)
	out.Warnings = warningsOf(set)
	return &answerOut{http.StatusAccepted, out}, nil
}

// submit stores a publication, or finds the one that somebody stored at the same time.
func (a *API) submit(ctx context.Context, c *call, p ruleset.Publication) (ruleset.Publication, error) {
	s := p.New(id.New(id.Published), a.now())
	said := s.Said()
	_, err := a.carryOut(ctx, c, change{general: said, make: func(*act.Facts) ([]act.Change, error) { return []act.Change{s}, nil }})
	if err != nil && problem.CodeOf(err) != "publication_open" {
		return p, err
	}
	open, ok, failed := a.Desk.Publications.OpenPublication(ctx, p.After, p.Hash, p.Plan(), a.now())
	switch {
	case failed != nil || ok:
		return open, failed
	case err == nil: // it was withdrawn at once
		err = ruleset.Over()
	}
	return p, err
}

// carry puts in force what was signed, or answers what it became if somebody else did at
// the same time.
func (a *API) carry(ctx context.Context, c *call, p *ruleset.Publication, set *policy.Set) (*answerOut, error) {
	by, _ := c.who()
	x, err := a.Desk.CarryOut(ctx, p, by, a.now())
	if err != nil {
		return nil, err
	}
	status, became := http.StatusCreated, x.Became
	_, err = a.carryOut(ctx, c, change{
		kind: x.Kind, whom: x.Signer, said: map[string]any{"signed": p.ID}, general: x.Said,
		make: func(*act.Facts) ([]act.Change, error) { return x.Changes, nil },
	})
	if err != nil {
		status = http.StatusOK
		if became, err = a.Desk.CarriedOut(ctx, p.ID, err); err != nil {
			return nil, err
		}
	}
	if p.Waves != nil {
		r, err := a.readRollout(ctx, c, became)
		if err != nil {
			return nil, err
		}
		return &answerOut{status, r.Body}, nil
	}
	v, err := a.Policies.Ruleset(ctx, became)
	out := viewPolicy(v)
	out.Warnings = warningsOf(set)
	return &answerOut{status, out}, err
}
