package countersign

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign-dev/countersign/test/promtext"
)

// metricsOf reads a verifier's metrics, without the audience.
func metricsOf(t *testing.T, vs ...*Verifier) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	MetricsHandler(vs...).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	return promtext.Read(t, w.Body.String(), "audience")
}

// wants compares what is named.
func wants(t *testing.T, when string, got, want map[string]float64) {
	t.Helper()
	for name, n := range want {
		if have, ok := got[name]; !ok || have != n {
			t.Errorf("%s: %s is %v (there: %v), want %v", when, name, have, ok, n)
		}
	}
}

// TestMetricsOfTheFeed: how far the feed is behind, and what is wrong with it.
func TestMetricsOfTheFeed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		if err := v.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		wants(t, "begun", metricsOf(t, v), map[string]float64{
			"countersign_feed_synced": 1, "countersign_feed_connected": 1, "countersign_feed_age_seconds": 0, "countersign_feed_sequence": 10,
			"countersign_feed_snapshots_total": 1, "countersign_feed_rejected_total": 0,
			"countersign_feed_bound_seconds": 15, "countersign_feed_outage_bound_seconds": 300, `countersign_feed_fault{kind="unreachable"}`: 0,
		})
		i.End(testHandle(2), testHandle(3))
		synctest.Wait()
		time.Sleep(4 * time.Second)
		wants(t, "four seconds on", metricsOf(t, v), map[string]float64{
			"countersign_feed_age_seconds": 4, "countersign_feed_entries": 2, "countersign_feed_sequence": float64(v.FeedStatus().Seq), "countersign_feed_frames_total": 2,
		})
		i.with(func() { i.gone, i.noSnapshot = true, true })
		i.Drop()
		time.Sleep(20 * time.Second)
		got := metricsOf(t, v)
		wants(t, "cut off", got, map[string]float64{"countersign_feed_connected": 0, "countersign_feed_age_seconds": 24})
		if got["countersign_feed_reconnects_total"] == 0 {
			t.Error("no reconnect is counted")
		}
	})
}

// TestMetricsOfRefusals: each refusal is counted by the error it names, once, and nothing of a
// request becomes a label.
func TestMetricsOfRefusals(t *testing.T) {
	i := newIssuer(t)
	v := newVerifier(t, i, nil)
	key := newKey(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	scope, proof := v.Protect(next, RequireScope("notes:write")), v.Protect(next, RequireAssurance("phrh"))
	held := func(aud string) *http.Request {
		return request(t, http.MethodGet, "/x", i.Token(i.Claims(aud, key, "notes:read")), key)
	}
	scope.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", nil))
	scope.ServeHTTP(httptest.NewRecorder(), held(testAudience))
	scope.ServeHTTP(httptest.NewRecorder(), held("https://other.example.com"))
	proof.ServeHTTP(httptest.NewRecorder(), held(testAudience))
	proof.ServeHTTP(httptest.NewRecorder(), held(testAudience))
	v.tally.refused(`a code nobody knows"} 1`)
	got := metricsOf(t, v)
	for code, n := range map[string]float64{
		"token_missing": 1, "insufficient_scope": 1, "insufficient_user_authentication": 2, "invalid_token": 1, "access_denied": 0, "temporarily_unavailable": 0, "other": 1,
	} {
		wants(t, "refusals", got, map[string]float64{fmt.Sprintf("countersign_requests_refused_total{error=%q}", code): n})
	}
	for name := range got {
		if strings.HasPrefix(name, "countersign_policy_") {
			t.Errorf("%s of a verifier without policies", name)
		}
	}
}

// TestMetricsOfSeveral: verifiers of several audiences are told apart, however those are spelt.
func TestMetricsOfSeveral(t *testing.T) {
	i := newIssuer(t)
	a := newVerifier(t, i, nil)
	b := newVerifier(t, i, func(c *Config) { c.Audience = "https://b.example.com/\"x\\y\"" })
	var text strings.Builder
	if err := WriteMetrics(&text, a, b); err != nil {
		t.Fatal(err)
	}
	got := promtext.Read(t, text.String())
	for _, v := range []*Verifier{a, b} {
		name := fmt.Sprintf("countersign_requests_refused_total{audience=%q,error=\"other\"}", v.cfg.Audience)
		if _, ok := got[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
	if n := strings.Count(text.String(), "# TYPE countersign_requests_refused_total "); n != 1 {
		t.Errorf("a family is there %d times", n)
	}
	if err := WriteMetrics(broken{}, a); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
}

var errBroken = errors.New("the connection broke")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// TestStatesOfPolicies: what is held is in one state, by whether the issuer was heard, how long
// ago that was, and what the feed has told.
func TestStatesOfPolicies(t *testing.T) {
	heard, never := make(chan struct{}), make(chan struct{})
	close(heard)
	for _, c := range []struct {
		ready  chan struct{}
		lowest int64
		age    time.Duration
		want   string
	}{
		{never, 0, time.Second, PoliciesKept},
		{never, 3, time.Second, PoliciesOutdated},
		{heard, 2, outageAfter, PoliciesFresh},
		{heard, 2, outageAfter + 1, PoliciesStale},
		{heard, 3, time.Second, PoliciesOutdated},
	} {
		b := &bundle{ready: c.ready}
		b.lowest.Store(&lowest{1, c.lowest})
		if got := b.state(&heldPolicies{epoch: 1, version: 2}, c.age); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestFaults: each error belongs to one of the few classes.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{&url.Error{Op: "Get", URL: "x", Err: errBroken}, FaultUnreachable},
		{errQuiet, FaultUnreachable},
		{fmt.Errorf("snapshot: %w", &ResponseError{Status: 503}), FaultUnavailable},
		{&ResponseError{Status: 401, Code: "invalid_client"}, FaultRefused},
		{errGone, FaultRefused},
		{rejected{errOlder}, FaultRejected},
		{fmt.Errorf("%w: %w", errFrame, errOlder), FaultRejected},
		{rejected{&url.Error{Op: "Get", URL: "keys", Err: errBroken}}, FaultUnreachable}, // keys could not be read
	} {
		if got := faultOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
