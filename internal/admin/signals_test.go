package admin_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/store"
)

// reporter is a service with a token for signals.
func (r *rig) reporter(owner account.Person) *login {
	r.t.Helper()
	m := r.machine(owner)
	sv, err := r.store.Service(r.t.Context(), r.serviceOf(m))
	r.ok(err)
	m.token = m.mint("signals", func(t *jose.AccessTokenClaims) { t.Subject, t.ClientID, t.ACR = sv.Subject, "robot", "" })
	return m
}

func about(typ, id string) map[string]any { return map[string]any{"type": typ, "id": id} }

// TestSignals: a service reports, and is heard in the score of all that the thing
// reported takes part in, with its words, up to what the configuration allows; said
// again it is one signal; when it is over, or withdrawn, nothing is left of it.
func TestSignals(t *testing.T) {
	r := newRig(t)
	dana, sam := r.person("dana", r.admins.ID), r.person("sam")
	boss := r.login(dana, everything)
	theirs := r.login(sam, everything)
	robot := r.reporter(dana)
	settings := risk.Default()
	settings.Points[risk.Reported] = 70
	p := &profile.Profiles{Store: r.store, Settings: settings}
	heard := func(o act.Origin) string {
		t.Helper()
		r.pass(5 * time.Second)
		a, err := p.Score(t.Context(), sam.ID, o, r.time())
		r.ok(err)
		var out []string
		for _, x := range a.Terms {
			out = append(out, fmt.Sprintf("%d %s", x.Points, x.Words))
		}
		return strings.Join(out, " ")
	}
	const alice = "60 The account is thought to be in somebody else's hands, says Robot."
	if got := heard(act.Origin{}); got != "" {
		t.Fatalf("%q before anything was said", got)
	}
	first := r.want(robot.do("POST", "/v1/signals", map[string]any{"kind": "account_compromised", "about": about("person", sam.Subject), "lifetime": 3600}), 201, "")
	sid, _ := first.body["id"].(string)
	if got := heard(act.Origin{}); got != alice {
		t.Errorf("%q, want %q", got, alice)
	}
	again := r.want(robot.do("POST", "/v1/signals", map[string]any{"kind": "account_compromised", "about": about("person", sam.ID), "points": 10, "lifetime": 7200}), 200, "")
	if again.body["id"] != sid || again.body["points"] != 10.0 {
		t.Errorf("said again: %v", again.body)
	}
	if got := heard(act.Origin{}); !strings.HasPrefix(got, "10 ") {
		t.Errorf("said again it is worth %q", got)
	}
	for _, tc := range []struct {
		kind   string
		about  map[string]any
		origin act.Origin
	}{
		{"session_hijacked", about("session", theirs.session.ID), act.Origin{Through: []string{theirs.session.ID}}},
		{"device_lost", about("device", theirs.session.Device), act.Origin{Device: theirs.session.Device}},
		{"client_compromised", about("client", "countersign-cli"), act.Origin{Through: []string{r.cli.ID}}},
		{"network_hostile", about("network", "203.0.113.77"), act.Origin{Network: "203.0.113.0/24"}},
		{"network_hostile", about("network", "2001:db8:1::/48"), act.Origin{Network: "2001:db8:1::/48"}},
	} {
		one := r.want(robot.do("POST", "/v1/signals", map[string]any{"kind": tc.kind, "about": tc.about}), 201, "")
		if got := heard(tc.origin); strings.Count(got, "says Robot") != 2 {
			t.Errorf("%s: %q", tc.kind, got)
		}
		if got := heard(act.Origin{}); strings.Count(got, "says Robot") != 1 {
			t.Errorf("%s: without it %q", tc.kind, got)
		}
		r.want(robot.do("DELETE", "/v1/signals/"+one.body["id"].(string), nil), 204, "")
		if got := heard(tc.origin); strings.Count(got, "says Robot") != 1 {
			t.Errorf("%s: withdrawn, and %q", tc.kind, got)
		}
	}
	// An administrator's counts beside the service's; together they are worth what the
	// configuration says.
	mine := r.want(boss.do("POST", "/v1/signals", map[string]any{"kind": "credential_leaked", "about": about("person", sam.ID), "points": 100}), 201, "")
	if got := heard(act.Origin{}); got != "70 A secret was found where it should not be, says an administrator." {
		t.Errorf("together: %q", got)
	}
	r.want(robot.do("DELETE", "/v1/signals/"+mine.body["id"].(string), nil), 404, "signal_not_found")
	if n := len(r.want(robot.do("GET", "/v1/signals", nil), 200, "").items()); n != 1 {
		t.Errorf("a service sees %d signals", n)
	}
	if n := len(r.want(boss.do("GET", "/v1/signals", nil), 200, "").items()); n != 2 {
		t.Errorf("an administrator sees %d", n)
	}
	r.want(boss.do("DELETE", "/v1/signals/"+mine.body["id"].(string), nil), 204, "")
	r.pass(3 * time.Hour)
	if got := heard(act.Origin{}); got != "" {
		t.Errorf("when it is over: %q", got)
	}
	r.ok(r.store.DeleteExpired(t.Context(), r.time()))
	list, err := r.store.Reports(t.Context(), "", "", 10, r.time().Add(-24*time.Hour))
	r.ok(err)
	if len(list) != 0 {
		t.Errorf("%d are kept", len(list))
	}
	page, _, err := r.store.AuditPage(t.Context(), store.Filter{Kinds: []audit.Kind{audit.SignalReported, audit.SignalWithdrawn}}, 50)
	r.ok(err)
	if len(page) != 14 {
		t.Errorf("%d records of what was said and withdrawn", len(page))
	}
	line, err := audit.Read(t.Context(), page[len(page)-1].Row, 0, r.keys, func(x string) string { return x })
	r.ok(err)
	if line.Kind != audit.SignalReported || !slices.Contains(line.Persons, sam.ID) {
		t.Errorf("the record: %+v", line)
	}
}

// TestSignalsRefused: what is said has a kind, a thing that is there and that the kind
// can be said of, a bounded worth and life, and a bounded number.
func TestSignalsRefused(t *testing.T) {
	r := newRig(t)
	dana, sam := r.person("dana", r.admins.ID), r.person("sam")
	robot := r.reporter(dana)
	for _, tc := range []struct {
		name   string
		body   map[string]any
		status int
		code   string
	}{
		{"no kind of ours", map[string]any{"kind": "evil", "about": about("person", sam.ID)}, 422, ""},
		{"of a thing it cannot be said of", map[string]any{"kind": "device_lost", "about": about("person", sam.ID)}, 400, "signal_about"},
		{"of nobody", map[string]any{"kind": "phishing", "about": about("person", "usr_0")}, 404, ""},
		{"of no type", map[string]any{"kind": "phishing", "about": about("planet", "usr_0")}, 422, ""},
		{"for ever", map[string]any{"kind": "phishing", "about": about("person", sam.ID), "lifetime": 1 << 40}, 422, ""},
		{"worth everything", map[string]any{"kind": "phishing", "about": about("person", sam.ID), "points": 1000}, 422, ""},
		{"worth less than nothing", map[string]any{"kind": "phishing", "about": about("person", sam.ID), "points": -5}, 422, ""},
		{"with words of its own", map[string]any{"kind": "phishing", "about": about("person", sam.ID), "words": "Click here."}, 422, ""},
		{"of the whole internet", map[string]any{"kind": "network_hostile", "about": about("network", "0.0.0.0/0")}, 400, "signal_network"},
		{"of no network", map[string]any{"kind": "network_hostile", "about": about("network", "home")}, 400, "signal_network"},
	} {
		a := robot.do("POST", "/v1/signals", tc.body)
		if a.StatusCode != tc.status && !(tc.status == 422 && a.StatusCode == 400) || tc.code != "" && a.code() != tc.code {
			t.Errorf("%s: %d %s", tc.name, a.StatusCode, a.text)
		}
	}
	var full []act.Change
	for i := range profile.MaxOfSource {
		full = append(full, profile.Told{Report: profile.Report{
			ID: fmt.Sprint("sgl_", i), Kind: "network_hostile", About: "network", Thing: grant.NetworkOf(mustAddr(fmt.Sprintf("10.%d.%d.1", i/200, i%200))),
			Points: 1, Source: r.serviceOf(robot), Name: "Robot", At: r.time(), Until: r.time().Add(time.Hour),
		}})
	}
	r.seed("", full...)
	r.want(robot.do("POST", "/v1/signals", map[string]any{"kind": "phishing", "about": about("person", sam.ID)}), 409, "signals_full")
	r.want(robot.do("POST", "/v1/signals", map[string]any{"kind": "network_hostile", "about": about("network", "10.0.0.0/24"), "points": 5}), 200, "")
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// serviceOf is the id of the service that a machine's token is of.
func (r *rig) serviceOf(l *login) string {
	r.t.Helper()
	c, err := r.store.Client(r.t.Context(), l.grant.ID)
	r.ok(err)
	return c.Service
}
