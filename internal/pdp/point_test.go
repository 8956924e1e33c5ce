package pdp_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/pep"
)

// counting counts what is asked of the issuer, and can cut it off.
type counting struct {
	asked, bundles atomic.Int64
	cut            atomic.Bool
	feed           sync.Map // "METHOD path" to how the feed answered: status and type
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case c.cut.Load():
		return nil, errors.New("cut off")
	case strings.HasPrefix(r.URL.Path, "/access/"):
		c.asked.Add(1)
	case r.URL.Path == "/v1/bundle":
		c.bundles.Add(1)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if at := r.Method + " " + r.URL.Path; err == nil && strings.HasPrefix(r.URL.Path, "/v1/revocations/") {
		c.feed.Store(at, strconv.Itoa(resp.StatusCode)+" "+resp.Header.Get("Content-Type"))
	}
	return resp, err
}

// described: what the SDK asked the feed for, and how it was answered, is in the document
// of the API, and so is how somebody without a token is.
func (c *counting) described(p *place) {
	p.Helper()
	d := p.document()
	for _, at := range []string{"GET /v1/revocations/stream", "GET /v1/revocations/snapshot", "POST /v1/revocations/ack"} {
		op, there := d.ops[at]
		if !there {
			p.Errorf("%s is not in the document", at)
		}
		answered, there := c.feed.Load(at)
		for end := time.Now().Add(30 * time.Second); !there && !strings.HasSuffix(at, "ack") && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			answered, there = c.feed.Load(at) // it is ready before the stream answers
		}
		if there {
			status, media, _ := strings.Cut(answered.(string), " ")
			if says, there := op.Responses[status]; !there || (media != "") != (says.Content[media] != nil) {
				p.Errorf("%s is answered %s, which the document does not say", at, answered)
			}
		} else if !strings.HasSuffix(at, "ack") {
			p.Errorf("the SDK did not ask: %s", at)
		}
		method, path, _ := strings.Cut(at, " ")
		r, err := http.NewRequest(method, p.issuer+path, strings.NewReader("{}"))
		ok(p.TB, err)
		if g := p.send(r); g.status != http.StatusUnauthorized {
			p.Errorf("%s: %d %s", at, g.status, g.text)
		}
	}
}

// TestEnforcementPoint is the SDK with the policies of a whole server: decided without
// it, asked where it has to be, told of other policies by the feed, and cut off.
func TestEnforcementPoint(t *testing.T) {
	p := open(t)
	net := &counting{}
	v, err := countersign.New(t.Context(), countersign.Config{
		Issuer: p.issuer, Audience: deploy, AllowBearer: true, Policies: pep.Engine(), HTTP: &http.Client{Transport: net},
		Client: countersign.ClientAuth{ID: "deploy-api", Secret: p.secret["deploy-api"]}, Now: func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) },
	})
	ok(t, err)
	t.Cleanup(v.Close)
	ready, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ok(t, v.Ready(ready))
	net.described(p)
	token := p.token(deploy, "use")
	machine := p.machine("deploy-api", deploy)
	tries := func(token, action string) (int, string) {
		on := countersign.Resource{Type: "Cluster", ID: "prod", Owner: subjectOf(t, token)}
		r := httptest.NewRequest(http.MethodPost, deploy+"/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		v.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), countersign.RequireAction(action, func(*http.Request) countersign.Resource { return on })).ServeHTTP(w, r)
		return w.Code, strings.Join(w.Header().Values("WWW-Authenticate"), "|")
	}
	for _, c := range []struct {
		token, action string
		status        int
		says          string
		asked         int64
	}{
		{token, "look", 200, "", 0},
		{token, "deploy", 200, "", 0},
		{token, "own", 200, "", 0},
		{token, "can_create_todo", 403, "", 0}, // another's
		{machine, "look", 200, "", 0},
		{token, "restart", 200, "", 1}, // reads risk
		{token, "destroy", 401, `error_description="Destroying needs a hardware key", acr_values="phrh"`, 1},
		{machine, "deploy", 403, `client_assurance="m3"`, 1}, // groups are of people
	} {
		before := net.asked.Load()
		status, says := tries(c.token, c.action)
		if status != c.status || !strings.Contains(says, c.says) || net.asked.Load()-before != c.asked {
			t.Errorf("%s: %d %q, asked %d times", c.action, status, says, net.asked.Load()-before)
		}
	}
	// What is said of a thing is decided on here as the server does, and is as strictly read.
	r := httptest.NewRequest(http.MethodPost, deploy+"/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	holder, err := v.Verify(r)
	ok(t, err)
	before := net.asked.Load()
	for said, want := range payments {
		var properties map[string]any
		d := json.NewDecoder(strings.NewReader("{" + strings.Replace(said, "1e3", "1000", 1) + "}"))
		d.UseNumber()
		ok(t, d.Decode(&properties))
		err := v.Authorize(t.Context(), holder, "pay", countersign.Resource{Type: "Payment", ID: "p", Properties: properties})
		if errors.As(err, new(*countersign.PropertyError)) != (want == 400) || errors.Is(err, countersign.NeedsStepUp) != (want == 401) || errors.Is(err, countersign.Denied) != (want == 403) || (err == nil) != (want == 200) {
			t.Errorf("%.80s: %v, at the server %d", said, err, want)
		}
	}
	if net.asked.Load() != before {
		t.Errorf("asked %d times about what it can decide", net.asked.Load()-before)
	}
	wait := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s does not come about: %+v", what, v.PolicyStatus())
			}
		}
	}
	// Who leaves a group is out when the policies are looked at again.
	dana, err := p.st.Store.PersonByUsername(t.Context(), "dana")
	ok(t, err)
	p.seed(audit.GroupLeft, group.Remove{Group: p.groups["release"], Person: dana.ID})
	wait("out of the group", func() bool { v.RefreshPolicies(); s, _ := tries(token, "deploy"); return s == 403 })
	p.join("release", dana.ID)
	// Other policies are heard of by the feed.
	p.publish(schema, strings.Replace(rules, `action == Action::"look", resource) when { context.assurance.rung >= 1 }`, `action == Action::"look", resource) when { context.assurance.rung >= 4 }`, 1))
	wait("another version", func() bool { return v.PolicyStatus().Version == 2 && v.PolicyStatus().Lowest == 2 })
	if status, says := tries(token, "look"); status != 401 || !strings.Contains(says, `acr_values="phrh"`) {
		t.Errorf("by the policies before: %d %s", status, says)
	}
	// A rule with an exception is the server's, which tells whom it concerns to nobody.
	p.publish(schema, rules, policy.Exception{ID: "journey", Rule: "look", For: dana.ID, Owner: "o", Reason: "A secret reason.", Rung: 1, Until: time.Now().Add(time.Hour)})
	wait("a third", func() bool { return v.PolicyStatus().Version == 3 })
	before = net.asked.Load()
	if status, _ := tries(token, "look"); status != 200 || net.asked.Load() != before+1 {
		t.Errorf("%d, asked %d times", status, net.asked.Load()-before)
	}
	// What has ended since it was verified is refused, by the feed.
	r = httptest.NewRequest(http.MethodPost, deploy+"/", nil)
	short := p.token(deploy, "use")
	r.Header.Set("Authorization", "Bearer "+short)
	verified, err := v.Verify(r)
	ok(t, err)
	ok(t, v.Authorize(t.Context(), verified, "own", countersign.Resource{Type: "Cluster", ID: "prod", Owner: verified.Subject}))
	p.form("app", "/oauth/revoke", "token="+short)
	wait("the end of a token", func() bool { return v.Recheck(t.Context(), verified) != nil })
	if err := v.Authorize(t.Context(), verified, "own", countersign.Resource{Type: "Cluster", ID: "prod", Owner: verified.Subject}); !errors.Is(err, countersign.Unauthenticated) {
		t.Errorf("a token that ended: %v", err)
	}
	// Cut off, each action gives its stated answer.
	net.cut.Store(true)
	for action, want := range map[string]int{"deploy": 200, "own": 200, "restart": 200, "look": 200, "destroy": 503} {
		if status, _ := tries(token, action); status != want {
			t.Errorf("cut off, %s: %d, want %d", action, status, want)
		}
	}
}

// TestBundleTellsNoMore: what a resource server is given of policies and people.
func TestBundleTellsNoMore(t *testing.T) {
	p := open(t)
	key, err := countersign.GenerateDPoPKey()
	ok(t, err)
	meta, err := countersign.Discover(t.Context(), p.issuer, nil)
	ok(t, err)
	get := func(as, query string) (int, string, string) {
		c := &countersign.TokenClient{Metadata: meta, Auth: countersign.ClientAuth{ID: as, Secret: p.secret[as]}, Key: key}
		hc := &http.Client{Transport: &countersign.Transport{
			Resource: p.issuer + "/v1", Source: countersign.NewTokenSource(&countersign.MemoryStore{}, c.CredentialsRenewal(p.issuer+"/v1", "feed")), Key: key,
		}}
		resp, err := hc.Get(p.issuer + "/v1/bundle?" + query)
		ok(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		ok(t, err)
		p.documented(resp.Request, nil, got{resp.StatusCode, resp.Header, string(text)})
		var doc struct{ Head, Content, Error string }
		ok(t, json.Unmarshal(text, &doc))
		if resp.StatusCode != 200 {
			return resp.StatusCode, "", doc.Error
		}
		return 200, doc.Head, doc.Content
	}
	status, head, content := get("deploy-api", "aud="+deploy)
	var c jose.BundleContent
	if status != 200 || json.Unmarshal([]byte(content), &c) != nil {
		t.Fatalf("%d %s", status, content)
	}
	for _, not := range []string{"todo", "editor", "destroy needs calm", "Deploying needs a key.", "dana", "usr_", "own.cedar", "look.machine"} {
		if strings.Contains(content, not) {
			t.Errorf("it says %q: %s", not, content)
		}
	}
	if g := c.Groups["release"]; len(c.Groups) != 1 || len(g) != 1 || len(g[0]) != 16 {
		t.Errorf("%v", c.Groups)
	}
	if a := c.Actions["destroy"]; len(c.Actions) != 7 || c.Format != jose.BundleTyped || len(c.Types) != 1 || c.Types["Payment"]["tags"] != "Set<String>" || a.Local || a.Held || !c.Actions["deploy"].Local || !c.Actions["restart"].Held || c.Actions["restart"].Local {
		t.Errorf("%+v", c.Actions)
	}
	var h struct{ Hash string }
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(head, ".")[1])
	ok(t, err)
	ok(t, json.Unmarshal(b, &h))
	if _, again, text := get("deploy-api", "aud="+deploy+"/&have="+h.Hash); again == "" || text != "" || h.Hash != jose.BundleHash(content) {
		t.Errorf("what it has comes again: %s", text)
	}
	for query, want := range map[string]int{"aud=" + todo: 403, "aud=https://no.example": 403, "": 400, "aud=" + deploy + "&aud=" + todo: 400} {
		if status, _, _ := get("deploy-api", query); status != want {
			t.Errorf("%q: %d, want %d", query, status, want)
		}
	}
	// While other policies are rolled out, the server alone decides.
	src := policy.Default()
	p.seed(audit.RolloutStarted, ruleset.Start{Rollout: ruleset.Rollout{N: 1, Hash: src.Hash(), Source: src, Base: p.n, Waves: []policy.Wave{{Rest: true, From: time.Now().Add(time.Hour)}}}})
	var rolling jose.BundleContent
	if _, _, text := get("deploy-api", "aud="+deploy+"&have="+h.Hash); json.Unmarshal([]byte(text), &rolling) != nil {
		t.Errorf("what it holds is not another: %s", text)
	}
	for name, a := range rolling.Actions {
		if was := c.Actions[name]; a.Local || a.Held != (was.Held && was.Last) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if strings.Contains(rolling.Policies, `"deploy"`) || !strings.Contains(rolling.Policies, `"restart"`) {
		t.Errorf("it holds %s", rolling.Policies)
	}
	// Those who are not there are answered by the policies by which those are who are.
	p.person("alice@example.com", "alice")
	p.ahead.Store(int64(2 * time.Hour))
	for _, sub := range []string{"alice@example.com", "nobody"} {
		if d := p.post("deploy-api", "/access/v1/evaluation", question("person", sub, "look", "")).decided(t); d.Decision || len(d.Context) != 1 {
			t.Errorf("%s, by policies that do not know the action: %v", sub, d)
		}
	}
	r, err := http.NewRequest(http.MethodGet, p.issuer+"/v1/bundle?aud="+deploy, nil)
	ok(t, err)
	if g := p.send(r); g.status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", g.status)
	}
	for _, status := range []string{"200", "400", "401", "403"} {
		if !p.doc.at["GET /v1/bundle "+status] {
			t.Errorf("never seen: %s", status)
		}
	}
}
