package countersign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2" //house:allow jitter between reads, nothing secret
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/jose"
)

// PolicyStatus is the state of the policies that are held here, for metrics and health.
type PolicyStatus struct {
	Held     bool
	State    string // PoliciesNone and the others; "" of a verifier without policies
	Epoch    int64
	Version  int64         // of the policies; 0 is the issuer's default set
	Hash     string        // of what they say, SHA-256 in base64url
	Lowest   int64         // that the issuer accepts, as far as was heard
	Age      time.Duration // since the issuer last said that they are in force
	Actions  int           // that may be asked about
	Local    int           // of them, those decided here
	Fetched  uint64        // times that the issuer was asked and answered well
	Rejected uint64        // answers that were older than what was seen, or not the issuer's
	Failed   uint64        // times that no answer came that could be looked at
	Decided  uint64        // actions decided
	Outages  uint64        // of them, those that the issuer alone decides and could not be asked about
	// LastError is of the last answer, and Fault its class, FaultUnreachable or another; ""
	// if it was good.
	LastError, Fault string
}

const (
	bundleEvery = 15 * time.Second // between two looks whether the policies are the same
	bundleLife  = 24 * time.Hour   // how long they may be held without the issuer's word
	maxBundle   = 8 << 20          // bytes

	subjectLength = 30 // of one that is the same towards all clients: usr_, or of a service svc_ or sub_, and 26 characters
)

// bundle holds the policies of one resource server, and never older ones than it has
// seen.
type bundle struct {
	v    *Verifier
	hc   *http.Client
	with Policies

	keep    *keep  // nil: nowhere
	content string // of what is held, if it is kept; run's alone, and recall's before

	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{} // closed at the first good bundle
	wake   chan struct{}

	held   atomic.Pointer[heldPolicies]
	lowest atomic.Pointer[lowest] // that the feed tells
	began  time.Time
	sure   atomic.Int64 // when the issuer last said that they are in force, ns since began
	stats  struct{ outages, fetched, rejected, failed atomic.Uint64 }

	mu  sync.Mutex
	err error // of the last answer
}

// lowest is the lowest acceptable version (mechanisms C9).
type lowest struct{ epoch, version int64 }

// heldPolicies are a bundle that was checked. They are never changed.
type heldPolicies struct {
	decider Decider // nil: nothing is decided here
	actions map[string]jose.BundleAction
	types   map[string]attribute.Types // of things, by their type
	members map[string][]string        // by jose.BundleMember
	aud     string                     // as the issuer spells it
	epoch   int64
	version int64
	iat     int64
	hash    string
}

// groupsOf are the groups of the person whose token it is.
func (h *heldPolicies) groupsOf(t *Token) []string {
	if len(h.members) == 0 {
		return nil
	}
	return h.members[jose.BundleMember(h.aud, t.Subject)]
}

// nameable reports whether a bundle names the person whose token it is by its subject:
// one that only a client's sector knows has another form, and is in no bundle.
func (t *Token) nameable() bool {
	return len(t.Subject) == subjectLength && strings.HasPrefix(t.Subject, "usr_")
}

// tellsKind reports whether the token says of which kind its holder is. One of a person
// whom only a sector knows, that says nothing of a sign-in, does not.
func (t *Token) tellsKind() bool {
	return t.Person() || len(t.Subject) == subjectLength && (strings.HasPrefix(t.Subject, "svc_") || strings.HasPrefix(t.Subject, "sub_"))
}

// tellsOwner reports whether the token says enough to know whether a thing is its
// person's: whom only a sector knows may own it by another name, which the issuer knows.
func (t *Token) tellsOwner(on Resource) bool {
	return on.Owner == "" || on.Owner == t.Subject || !t.Person() || t.nameable()
}

func newBundle(v *Verifier) *bundle {
	return &bundle{v: v, with: v.cfg.Policies, ready: make(chan struct{}), wake: make(chan struct{}, 1), began: time.Now()}
}

// start holds what was kept, if New did not, and begins to read.
func (b *bundle) start(ctx context.Context) {
	if b.keep != nil && b.held.Load() == nil {
		x, _, err := b.keep.read(b.v.cfg.Issuer)
		if x != nil && err == nil {
			err = b.recall(ctx, x)
		}
		if err != nil {
			b.v.log.Warn("the policies that were kept are not used", "err", err)
		}
	}
	b.hc = b.v.toward(b.v.cfg.Issuer + "/v1")
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	b.wg.Go(func() { b.run(ctx) })
}

func (b *bundle) close() {
	b.cancel()
	b.wg.Wait()
}

// current is what may be decided by, and how long ago the issuer said so; nil if there
// is nothing, or the issuer has said that it is too old.
func (b *bundle) current() (*heldPolicies, time.Duration) {
	h := b.held.Load()
	if h == nil || b.outdated(h) {
		return nil, 0
	}
	return h, time.Since(b.began) - time.Duration(b.sure.Load())
}

func (b *bundle) outdated(h *heldPolicies) bool {
	l := b.lowest.Load()
	return l != nil && (h.epoch < l.epoch || h.epoch == l.epoch && h.version < l.version)
}

// heard takes what a frame of the feed says of the policies.
func (b *bundle) heard(epoch, version int64) {
	if l := b.lowest.Load(); l != nil && (epoch < l.epoch || epoch == l.epoch && version <= l.version) {
		return
	}
	b.lowest.Store(&lowest{epoch, version})
	if h := b.held.Load(); h != nil && b.outdated(h) {
		b.look()
	}
}

// look has the issuer asked now.
func (b *bundle) look() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// RefreshPolicies has the issuer asked now whether the policies are the same, which is
// done every 15 seconds anyway, and at once when the feed tells of others.
func (v *Verifier) RefreshPolicies() {
	if v.bundle != nil {
		v.bundle.look()
	}
}

// run reads again and again, until ctx ends.
func (b *bundle) run(ctx context.Context) {
	pause := time.Duration(0)
	for {
		err := b.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		b.note(err)
		if err == nil {
			pause = bundleEvery
		} else {
			pause = min(max(2*pause, 100*time.Millisecond), maxPause)
		}
		if h := b.held.Load(); err == nil && b.outdated(h) {
			pause = 100 * time.Millisecond // another replica knows more
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
		if err == nil {
			pause = 0
		}
	}
}

func (b *bundle) note(err error) {
	if err != nil {
		b.v.log.Warn("policy bundle", "err", err)
	}
	b.mu.Lock()
	b.err = err
	b.mu.Unlock()
	switch not := (rejected{}); {
	case err == nil:
		b.stats.fetched.Add(1)
	case errors.As(err, &not):
		b.stats.rejected.Add(1)
	default:
		b.stats.failed.Add(1)
	}
}

// errOlder is an answer that would take back what was seen.
var errOlder = errors.New("it is older than what was seen")

// fetch asks for the bundle that is in force, and takes it.
func (b *bundle) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	q := url.Values{"aud": {b.v.cfg.Audience}}
	was := b.held.Load()
	if was != nil {
		q.Set("have", was.hash)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.v.cfg.Issuer+"/v1/bundle?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	begun := time.Since(b.began) // what it says was so then, or later
	resp, err := b.hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBundle))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return responseError(resp, body)
	}
	if err := b.take(ctx, body, was); err != nil {
		return rejected{err}
	}
	b.sure.Store(int64(begun))
	select {
	case <-b.ready:
	default:
		close(b.ready)
	}
	return nil
}

// take checks an answer and puts it into effect. The head is the issuer's, of now, and not
// older than what was seen: a version never goes back within an epoch of the issuer, nor
// an epoch, nor, of one version, who belongs to which group.
func (b *bundle) take(ctx context.Context, body []byte, was *heldPolicies) error {
	var doc struct {
		Head    string `json:"head"`
		Content string `json:"content"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return err
	}
	head, err := b.verify(ctx, doc.Head)
	if err != nil {
		return err
	}
	if d := b.v.now().Sub(head.IssuedAt.Time()); d > feedSkew || d < -feedSkew {
		return errors.New("it is not of now")
	}
	if was != nil && head.Epoch == was.epoch && head.Policy == was.version && head.Hash == was.hash {
		b.keeps(doc.Head, head)
		return nil
	}
	if was != nil {
		have, next := []int64{was.epoch, was.version, was.iat}, []int64{head.Epoch, head.Policy, int64(head.IssuedAt)}
		if slices.Compare(next, have) < 0 {
			return errOlder
		}
	}
	next := &heldPolicies{epoch: head.Epoch, version: head.Policy, iat: int64(head.IssuedAt), hash: head.Hash, aud: head.Audience[0]}
	if was != nil && head.Hash == was.hash {
		next.decider, next.actions, next.types, next.members = was.decider, was.actions, was.types, was.members
	} else if err := next.read(doc.Content, b.with); err != nil {
		return err
	}
	b.held.Store(next)
	if doc.Content != "" {
		b.content = doc.Content
	}
	b.keeps(doc.Head, head)
	return nil
}

// keeps keeps what was just taken.
func (b *bundle) keeps(jws string, head *jose.BundleHead) {
	if b.keep == nil {
		b.content = ""
		return
	}
	if err := b.keep.write(b.v.meta, b.v.keys.set.Load(), jws, head, b.content, b.v.now()); err != nil {
		b.v.log.Warn("keep the policies", "err", err)
	}
}

// verify checks a head, whichever spelling of the audience the issuer uses.
func (b *bundle) verify(ctx context.Context, jws string) (head *jose.BundleHead, err error) {
	var first error
	for _, aud := range b.v.audiences {
		head, err = jose.VerifyBundleHead(jws, &lookup{ctx: ctx, cache: b.v.keys, pause: feedThrottle}, jose.FeedWant{Issuer: b.v.cfg.Issuer, Audience: aud})
		if err == nil {
			return head, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// read makes of the content what is decided by.
func (h *heldPolicies) read(text string, with Policies) error {
	if jose.BundleHash(text) != h.hash {
		return errors.New("the content is not what the head names")
	}
	var c jose.BundleContent
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	if c.Format != jose.BundleFormat && c.Format != jose.BundleTyped {
		return fmt.Errorf("it is of format %d, which this release does not know", c.Format)
	}
	h.actions, h.types, h.members = c.Actions, c.Types, map[string][]string{}
	for name, list := range c.Groups {
		for _, m := range list {
			h.members[m] = append(h.members[m], name)
		}
	}
	if c.Policies == "" {
		return nil
	}
	var err error
	h.decider, err = with.Compile(c.Schema, c.Policies)
	return err
}

// PolicyStatus gives the state of the policies held here; the zero value if none are.
func (v *Verifier) PolicyStatus() PolicyStatus {
	b := v.bundle
	if b == nil {
		return PolicyStatus{}
	}
	s := PolicyStatus{
		State: PoliciesNone, Fetched: b.stats.fetched.Load(), Rejected: b.stats.rejected.Load(), Failed: b.stats.failed.Load(),
		Decided: v.tally.all(), Outages: b.stats.outages.Load(),
	}
	b.mu.Lock()
	err := b.err
	b.mu.Unlock()
	if err != nil {
		s.LastError, s.Fault = err.Error(), faultOf(err)
	}
	if l := b.lowest.Load(); l != nil {
		s.Lowest = l.version
	}
	h := b.held.Load()
	if h == nil {
		return s
	}
	s.Held, s.Epoch, s.Version, s.Hash, s.Actions = true, h.epoch, h.version, h.hash, len(h.actions)
	s.Age = time.Since(b.began) - time.Duration(b.sure.Load())
	s.State = b.state(h, s.Age)
	for _, a := range h.actions {
		if a.Local && a.Held {
			s.Local++
		}
	}
	return s
}

// state is the word for policies of an age.
func (b *bundle) state(h *heldPolicies, age time.Duration) string {
	heard := false
	select {
	case <-b.ready:
		heard = true
	default:
	}
	switch {
	case b.outdated(h):
		return PoliciesOutdated
	case !heard:
		return PoliciesKept
	case age > outageAfter:
		return PoliciesStale
	}
	return PoliciesFresh
}
