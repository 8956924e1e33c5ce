// Package pdp is where resource servers are answered: the AuthZEN Authorization API 1.0
// (evaluation, evaluations, action search, metadata), and the bundles of policies by
// which enforcement points decide by themselves (mechanisms A16). It owns what a question
// may say, what an answer tells, and what of it is recorded. What is decided is policy's,
// by way of act; who asks, whose a token is, and who may be asked about, come from Config.
package pdp

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// Caller is a resource server that asks.
type Caller struct {
	Client    string // by id
	Resources []resource.Resource
}

// serves is the resource of an audience; nil if the caller does not serve it.
func (c *Caller) serves(audience string) *resource.Resource {
	for i := range c.Resources {
		if c.Resources[i].URI == audience {
			return &c.Resources[i]
		}
	}
	return nil
}

// Holder is whose authority a live access token carries.
type Holder struct {
	Claims *jose.AccessTokenClaims
	Kind   string // of principal
	Actor  string // by id
	Grant  string // of a person's own; "": none
	Client string // that holds it, by id
	Leaf   string // what it hangs on
	Depth  int
	// Details are what its authorization details say at its resource.
	Details policy.Details
}

// Directory finds people and who belongs to groups.
type Directory interface {
	PersonBySubject(ctx context.Context, sub string) (account.Person, error)
	PersonByUsername(ctx context.Context, username string) (account.Person, error)
	GroupByName(ctx context.Context, name string) (group.Group, error)
	MemberSubjects(ctx context.Context, group, after string, n int) ([]string, error)
}

// Config is what the surface stands on. All of it is needed.
type Config struct {
	Issuer string
	Epoch  int64 // of the deployment
	Do     *act.Doer
	Ladder assurance.Ladder
	People Directory
	// Authenticate establishes who asks; problem.Unauthenticated, or Denied.
	Authenticate func(*http.Request) (Caller, error)
	// Holder verifies an access token; problem.Unauthenticated if it does not count.
	Holder func(ctx context.Context, token string) (Holder, error)
	// Policies gives the set in force, and a number that moves whenever what is held of
	// it may be another.
	Policies func(context.Context) (*policy.Set, int64, error)
	// Rolling reports whether other policies are being rolled out: then which decide
	// depends on who asks, and the server alone knows.
	Rolling func(context.Context) (bool, error)
	// Signer gives the current signer of purpose feed, for jose.TypBundle.
	Signer func() (*jose.Signer, error)
	// Counted is told of a decision that is counted and not recorded.
	Counted func(what string)
	Log     *slog.Logger
	Now     func() time.Time
}

// Server answers resource servers.
type Server struct {
	Config
	noted   noted
	bundles bundles
	stats   [3]atomic.Uint64 // by policy.Outcome
	records atomic.Uint64
	handed  atomic.Uint64
}

// New makes the surface.
func New(c Config) *Server { return &Server{Config: c} }

// Stats are counts since the process began, for metrics.
type Stats struct {
	Denied, Asked, Allowed uint64 // decisions, by outcome
	Recorded               uint64
	Bundles                uint64 // heads of bundles handed out
}

// Stats gives the counts.
func (s *Server) Stats() Stats {
	return Stats{
		Denied: s.stats[policy.Deny].Load(), Asked: s.stats[policy.StepUp].Load(), Allowed: s.stats[policy.Allow].Load(),
		Recorded: s.records.Load(), Bundles: s.handed.Load(),
	}
}

// The endpoints; AuthZEN's are where it has them by default.
const (
	pathMetadata    = "/.well-known/authzen-configuration"
	pathAccess      = "/access/" // and all below it
	pathEvaluation  = pathAccess + "v1/evaluation"
	pathEvaluations = pathAccess + "v1/evaluations"
	pathActions     = pathAccess + "v1/search/action"
	pathBundle      = "/v1/bundle"
)

// Mount gives each route to mount, as http.ServeMux.Handle takes it.
func (s *Server) Mount(mount func(pattern string, h http.Handler)) {
	handle := func(pattern string, h web.Handler) { mount(pattern, traced(h.With(s.Render))) }
	mount("GET "+pathBundle, web.Handler(s.bundle).With(s.renderBundle))
	handle("GET "+pathMetadata, s.metadata)
	handle("POST "+pathEvaluation, s.asking(s.evaluation))
	handle("POST "+pathEvaluations, s.asking(s.evaluations))
	handle("POST "+pathActions, s.asking(s.searchAction))
	for _, path := range []string{pathEvaluation, pathEvaluations, pathActions} {
		handle(path, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Allow", http.MethodPost)
			return errMethod
		})
	}
	handle(pathAccess, func(http.ResponseWriter, *http.Request) error { return errNowhere })
}

// traced gives a caller its own name of a request back (AuthZEN 1.0, X-Request-ID).
func traced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("X-Request-ID"); id != "" && len(id) <= maxRequestID && printable(id) {
			w.Header().Set("X-Request-ID", id)
		}
		next.ServeHTTP(w, r)
	})
}

const maxRequestID = 200

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// metadata says what is answered here, and nothing that is not: who could do something,
// and on what, is not searched for, because resource servers know their things and we
// do not, and people are not listed to them.
func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", "public, max-age=300")
	return web.JSON(w, http.StatusOK, struct {
		PDP         string `json:"policy_decision_point"`
		Evaluation  string `json:"access_evaluation_endpoint"`
		Evaluations string `json:"access_evaluations_endpoint"`
		Actions     string `json:"search_action_endpoint"`
	}{s.Issuer, s.Issuer + pathEvaluation, s.Issuer + pathEvaluations, s.Issuer + pathActions})
}

// noted remembers for a minute which answers were recorded, and how many of each caller:
// what is asked a thousand times a minute is recorded once, no caller fills the log, and
// nobody who acts there leaves no room for what others do.
type noted struct {
	mu     sync.Mutex
	minute int64
	seen   map[note]struct{}
	counts map[whose]int
}

// whose is a caller, or with actor one who acts there.
type whose struct{ caller, actor string }

// note is an answer that is told apart from others in the log.
type note struct {
	caller, kind, actor, client, action, thing, version string
	said                                                uint64 // of the thing, as policies tell it apart
	own                                                 bool
	outcome                                             policy.Outcome
	code                                                string
	ask                                                 assurance.Ask
}

// The bounds of a minute.
const (
	maxNotes     = 20_000 // answers remembered
	maxPerCaller = 600    // records
	maxPerActor  = 60     // of them, of one who acts: they may choose what is said of things
)

// first reports whether an answer is to be recorded.
func (n *noted) first(x note, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := now.Unix() / 60; m != n.minute || n.seen == nil {
		n.minute, n.seen, n.counts = m, map[note]struct{}{}, map[whose]int{}
	}
	all, theirs := whose{caller: x.caller}, whose{x.caller, x.actor}
	if _, ok := n.seen[x]; ok || len(n.seen) >= maxNotes || n.counts[all] >= maxPerCaller || n.counts[theirs] >= maxPerActor {
		return false
	}
	n.seen[x] = struct{}{}
	n.counts[all]++
	n.counts[theirs]++
	return true
}

// forget takes back an answer that could not be recorded.
func (n *noted) forget(x note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.seen[x]; ok {
		delete(n.seen, x)
		n.counts[whose{caller: x.caller}]--
		n.counts[whose{x.caller, x.actor}]--
	}
}
