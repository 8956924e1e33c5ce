// Package admin is the JSON management API /v1: people, invitations, groups,
// clients, resources, sessions and the log, for our own DPoP-bound access
// tokens only (contract). It authenticates, judges scope before policy, reads
// and validates what is asked, and changes state only through act.Do; errors
// are problem+json (RFC 9457) and challenges (RFC 6750, 9449, 9470). What may
// happen is policy's, what a noun is its own package's, SQL the store's.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/session"
)

// Directory reads people and groups.
type Directory interface {
	account.Store
	group.Store
}

// Registry reads clients, services, resources and trusted issuers.
type Registry interface {
	client.Store
	resource.Store
	issuer.Store
}

// Access reads sessions, devices and grants.
type Access interface {
	SessionsOf(ctx context.Context, person string) ([]session.Session, error)
	Session(ctx context.Context, id string) (session.Session, error)
	Device(ctx context.Context, id string) (session.Device, error)
	// DevicesOf is that of session.Store.
	DevicesOf(ctx context.Context, person string) ([]session.Known, error)
	// Marked is that of session.Store.
	Marked(ctx context.Context, by string, at time.Time, after string, n int) ([]session.Known, error)
	Grant(ctx context.Context, id string) (grant.Grant, error)
	GrantsOf(ctx context.Context, person string) ([]grant.Grant, error)
}

// State reads what liveness is judged by, and single-use values.
type State interface {
	// Issued gives the lineage node that a token (by its jti) hangs on and
	// everything above it, as they are now; problem.NotFound if no such record
	// issued anything.
	Issued(ctx context.Context, recordID string) ([]lineage.Node, error)
	// OnceValue reads a value, spent or not; *once.Gone if it was never there.
	OnceValue(ctx context.Context, p once.Purpose, k once.Key) (once.Value, error)
	// OncePending lists the values of a purpose that can still be spent.
	OncePending(ctx context.Context, p once.Purpose) ([]once.Value, error)
}

// LogQuery selects lines of the log.
type LogQuery struct {
	Person string       // id; "": anybody
	Kinds  []audit.Kind // nil: all
	Before string       // id of the last record of the page before; "": the newest
}

// Log reads the log in words.
type Log interface {
	// AuditPage gives lines newest first, at most n. next is the Before of the
	// next page, "" if there is none; a page may be short and have a next one.
	AuditPage(ctx context.Context, q LogQuery, n int) (lines []audit.Line, next string, err error)
	// Referred gives the newest lines, at most n, that name the request of a reference;
	// person "": of anybody. since is the id of the first record that is found so, ""
	// if there is none yet: those before it have to be looked through.
	Referred(ctx context.Context, ref, person string, n int) (lines []audit.Line, since string, err error)
	// Decisions gives what was decided from a time on and before another, oldest
	// first, out of at most n records behind after; "" begins at from.
	Decisions(ctx context.Context, from, until time.Time, after string, n int) (replay.Decisions, error)
	// Monitored gives what rules in mode monitor would have done, out of the newest n
	// records since a time and before one, by its id; "" begins with the newest.
	Monitored(ctx context.Context, since time.Time, before string, n int) (replay.Monitored, error)
}

// Description writes what a surface answers into the document of the API.
type Description = func(*huma.OpenAPI)

// Config is what the API stands on.
type Config struct {
	Issuer    string // https origin; the API is at <Issuer>/v1
	Do        *act.Doer
	Keys      jose.KeySet // that our access tokens are signed with
	Directory Directory
	Registry  Registry
	// Admissions is what is said of clients that nobody registered.
	Admissions client.Admissions
	Access     Access
	Factors    Factors
	Imports    Imports
	Policies   ruleset.Store
	Book       *ruleset.Book // the server's own: sets are compiled once
	Rollouts   Rollouts
	Desk       *ruleset.Desk // the one of the pages, too
	State      State
	Log        Log
	Tree       Published
	Notices    Notices
	Leaks      Leaks
	// Reports are the signals of risk from outside.
	Reports profile.Reports
	// Ready makes sure, before a client is registered or changed, of what it relies on
	// outside of its row: a key of its algorithm, the document of its sector. nil:
	// nothing is.
	Ready func(ctx context.Context, c client.Client) error
	// Applied waits a bounded time until the enforcement points that are
	// connected have applied a record, and says whether all have. nil: the
	// parameter wait is refused.
	Applied func(ctx context.Context, recordID string) (bool, error)
	// Recoveries, the settings of recovering, and the keys that cancel links are
	// made with, the newest first.
	Recoveries recovery.Store
	Reviews    review.Store
	Recovery   recovery.Settings
	CancelKeys func() [][]byte
	// Beside are other surfaces that answer programs.
	Beside []Description
	// ClientAddr is where a request comes from; not valid means unknown (mechanisms I20).
	ClientAddr func(*http.Request) netip.Addr
	Now        func() time.Time // nil: time.Now
}

// API serves /v1.
type API struct {
	Config
	mux      *http.ServeMux
	huma     huma.API
	ops      []operation
	verified *generations[*jose.AccessTokenClaims]
	seen     *generations[struct{}]
	learned  *generations[struct{}]
}

// MaxBody is the longest request body, in bytes.
const MaxBody = 128 << 10

// New makes the API. It fails only on a Config that lacks something.
func New(c Config) (*API, error) {
	if c.Issuer == "" || c.Do == nil || c.Keys == nil || c.Directory == nil || c.Registry == nil || c.Access == nil || c.Policies == nil || c.Book == nil || c.Rollouts == nil || c.Desk == nil || c.Factors == nil || c.Imports == nil || c.State == nil || c.Log == nil || c.Recoveries == nil || c.Reviews == nil || c.CancelKeys == nil || c.ClientAddr == nil || c.Tree == nil ||
		c.Notices.Store == nil || c.Notices.Sealer == nil || c.Leaks == nil || c.Reports == nil {
		return nil, errors.New("admin: the configuration is not complete")
	}
	adoptHuma()
	a := &API{
		Config: c, mux: http.NewServeMux(),
		verified: newGenerations[*jose.AccessTokenClaims](tokenLife, verifiedCap), seen: newGenerations[struct{}](replayLife, replayCap),
		learned: newGenerations[struct{}](tokenLife, verifiedCap),
	}
	a.huma = humago.New(a.mux, a.config())
	a.people()
	a.invitations()
	a.groups()
	a.clients()
	a.admissions()
	a.resources()
	a.issuers()
	a.sessions()
	a.devices()
	a.recoveries()
	a.reviews()
	a.factors()
	a.webhooks()
	a.deliveries()
	a.leaks()
	a.signals()
	a.policies()
	a.policyRules()
	a.publications()
	a.rollouts()
	a.decisions()
	a.log()
	a.published()
	for _, describe := range c.Beside {
		describe(a.huma.OpenAPI())
	}
	document, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return nil, err
	}
	a.mux.HandleFunc("GET /v1/openapi.json", constant("application/openapi+json", document))
	meta, err := json.Marshal(a.metadata())
	if err != nil {
		return nil, err
	}
	a.mux.HandleFunc("GET "+metadataPath, constant("application/json", meta))
	a.mux.HandleFunc("/", a.unknown)
	return a, nil
}

// Mount puts the API on a mux: /v1, everything below it that has no better
// pattern, the metadata of the resource, and the published log.
func (a *API) Mount(mux *http.ServeMux) {
	for _, p := range []string{"/v1", "/v1/", metadataPath, "/log/"} {
		mux.Handle(p, a.mux)
	}
}

func (a *API) now() time.Time {
	if a.Now != nil {
		return a.Now().UTC()
	}
	return time.Now().UTC()
}

// audience is the resource identifier of the API.
func (a *API) audience() string { return a.Issuer + "/v1" }

func (a *API) config() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Countersign management API", Version: "1",
				Description: "People, groups, clients, resources, sessions, policies and the log, and what resource servers ask. Changes within v1 are additive.",
			},
			Servers: []*huma.Server{{URL: a.Issuer}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{schemeName: {
					Type: "http", Scheme: "dpop", BearerFormat: "JWT",
					Description: "A DPoP-bound access token (RFC 9449) of this server for " + a.audience() + ".",
				}},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": strictJSON, "json": strictJSON},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
}

const schemeName = "dpop"

func constant(typ string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", typ)
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(body) // a caller who is gone needs no answer
	}
}

// unknown answers what no operation answers: 404, or 405 with what is allowed.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := a.mux.Handler(probe); pattern != "/" && pattern != "" {
			allow = append(allow, m)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		a.Render(w, r, problem.Newf(problem.Invalid, codeMethod, "This is for %s.", strings.Join(allow, ", ")))
		return
	}
	a.Render(w, r, problem.New(problem.NotFound, "not_found", "There is nothing at this address.").
		WithHint("What there is stands in /v1/openapi.json."))
}
