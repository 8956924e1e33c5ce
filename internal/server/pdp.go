package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/feed"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/pdp"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// newPDP builds what answers resource servers.
func (s *Server) newPDP() *pdp.Server {
	return pdp.New(pdp.Config{
		Issuer: s.Config.Issuer, Epoch: s.epoch, Do: s.Do, Ladder: s.Do.Ladder, People: s.Store,
		Authenticate: s.asker, Holder: s.holder, Policies: s.policiesInForce, Rolling: s.rolling,
		Signer:  func() (*jose.Signer, error) { return s.Ring.Signer(keyring.Feed, "ES256", jose.TypBundle) },
		Counted: func(what string) { s.counters.Count(s.now(), what, "resource server") },
		Log:     s.log, Now: s.now,
	})
}

// rolling reports whether a rollout of policies runs.
func (s *State) rolling(ctx context.Context) (bool, error) {
	_, runs, err := s.Store.OpenRollout(ctx)
	return runs, err
}

// policiesInForce gives the set in force, and the edition of what may be held of it.
func (s *State) policiesInForce(ctx context.Context) (*policy.Set, int64, error) {
	p, err := s.Store.Policies(ctx)
	if err != nil {
		return nil, 0, err
	}
	set, err := s.Do.Rulesets(ctx, p.Head)
	if err != nil {
		return nil, 0, problem.New(problem.Unavailable, "policy_unavailable", "The policies in force cannot be read.").Because(err)
	}
	return set, p.Edition, nil
}

// holder finds whose an access token is.
func (s *Server) holder(ctx context.Context, token string) (pdp.Holder, error) {
	h, err := s.oauth.Holder(ctx, token)
	return pdp.Holder(h), err
}

// asker establishes a resource server that asks for decisions: by the token that it
// listens to the feed with, or as a client by what its request itself shows.
func (s *Server) asker(r *http.Request) (pdp.Caller, error) {
	var client string
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "DPoP") {
		c, err := s.listener(r)
		if err != nil {
			return pdp.Caller{}, err
		}
		client = c.Client
	} else {
		c, err := s.oauth.ServerClient(r)
		if err != nil {
			return pdp.Caller{}, err
		}
		client = c.ID
	}
	list, err := s.Store.ServedBy(r.Context(), client)
	return pdp.Caller{Client: client, Resources: list}, err
}

// listener establishes who shows a sender-bound token for /v1 with the scope feed.
func (s *Server) listener(r *http.Request) (admin.Caller, error) {
	c, err := s.admin.Authenticate(r)
	if err == nil && !c.Has("feed") {
		err = problem.New(problem.Denied, "insufficient_scope", "The token lacks the scope feed.")
	}
	return c, err
}

// enforcementPoint establishes who asks for the feed: a service, and which resources it
// serves.
func (s *Server) enforcementPoint(r *http.Request) (feed.Caller, error) {
	c, err := s.listener(r)
	if err != nil {
		return feed.Caller{}, err
	}
	out := feed.Caller{Client: c.ClientID, Instance: c.JKT}
	list, err := s.Store.ServedBy(r.Context(), c.Client)
	for _, res := range list {
		out.Audiences = append(out.Audiences, res.URI)
	}
	return out, err
}

// pdpMetrics are counts of what resource servers were answered.
type pdpMetrics struct{ s *Server }

var (
	pdpDecisions = prometheus.NewDesc("countersign_decisions_asked_total", "Decisions that resource servers asked for, by this process.", []string{"outcome"}, nil)
	pdpRecorded  = prometheus.NewDesc("countersign_decisions_recorded_total", "Of them, those that were recorded one by one.", nil, nil)
	pdpBundles   = prometheus.NewDesc("countersign_policy_bundles_total", "Signed heads of policy bundles handed out, by this process.", nil, nil)
	pdpVersion   = prometheus.NewDesc("countersign_policy_version", "Version of the policies that this process decides by.", nil, nil)
)

// Describe implements prometheus.Collector.
func (pdpMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pdpDecisions, pdpRecorded, pdpBundles, pdpVersion} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m pdpMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.s.pdp.Stats()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	count(pdpDecisions, st.Denied, policy.Deny.String())
	count(pdpDecisions, st.Asked, policy.StepUp.String())
	count(pdpDecisions, st.Allowed, policy.Allow.String())
	count(pdpRecorded, st.Recorded)
	count(pdpBundles, st.Bundles)
	ch <- prometheus.MustNewConstMetric(pdpVersion, prometheus.GaugeValue, float64(m.s.knownPolicies().Head))
}

// Decisions counts what resource servers were answered by this process.
func (s *Server) Decisions() pdp.Stats { return s.pdp.Stats() }
