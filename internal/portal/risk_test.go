package portal_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/store"
)

// scoring makes a rig score risk; from is where requests come from.
func (r *rig) scoring() (from *atomic.Value) {
	from = &atomic.Value{}
	from.Store("198.51.100.7")
	r.server.ClientAddr = func(*http.Request) netip.Addr { return netip.MustParseAddr(from.Load().(string)) }
	r.do.Risk = &profile.Profiles{Store: r.store, Settings: risk.Default()}
	return from
}

// TestRiskLadder shows somebody after nine days of the same habits: what is always
// so is silent; a session's cookie that turns up elsewhere, without the browser it
// was given to, needs a passkey, and the page says why; a network that tries others
// in vain makes it an attack, which is refused and recorded.
func TestRiskLadder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	from := r.scoring()
	b := r.browser()
	b.setUp()
	for range 40 {
		r.clock.move(6 * time.Hour)
		b.signIn(0).to(t)
	}
	r.clock.move(20 * time.Minute) // no proof is new
	b.get("/admin/people").shows(t, 200, "People")

	// Whoever took the cookie of the session alone.
	site, err := url.Parse(r.http.URL)
	check(t, err)
	thief := r.browser()
	thief.auth = b.auth
	for _, c := range b.client.Jar.Cookies(site) {
		if strings.HasSuffix(c.Name, "cs_session") {
			thief.client.Jar.SetCookies(site, []*http.Cookie{c})
		}
	}
	from.Store("203.0.113.9")
	page := thief.get(thief.get("/admin/people").sent(t, "/step-up?next=%2Fadmin%2Fpeople&why=people"))
	for _, words := range []string{"It shows no device that this account has.", "The network 203.0.113.0/24 is new for this account."} {
		if !strings.Contains(page.body, words) {
			t.Errorf("the page does not say: %s", words)
		}
	}
	b.get("/admin/people").shows(t, 200, "People") // the owner there: a network alone is low
	from.Store("198.51.100.7")
	b.get("/admin/people").shows(t, 200, "People") // and nothing has changed at home
	from.Store("203.0.113.9")

	for i := range 10 {
		r.do.Risk.Miss("somebody"+strconv.Itoa(i), "203.0.113.0/24", r.clock.now())
	}
	if a := thief.get("/admin/people"); a.status != 403 {
		t.Errorf("%d %s", a.status, a.title())
	}

	// A passkey lets its owner in from there all the same; the record says how unusual
	// it was, and why.
	other := r.browser()
	other.auth, other.handle = b.auth, b.handle
	other.signIn(0).to(t)
	list, _, err := r.store.AuditPage(t.Context(), store.Filter{}, 5)
	check(t, err)
	var facts string
	for _, rec := range list {
		if rec.Kind == audit.SessionOpened && facts == "" {
			facts = string(rec.Row.Facts)
		}
	}
	for _, want := range []string{`"risk":"high"`, `"signals":["new_device","new_network","network_attacks"]`} {
		if !strings.Contains(facts, want) {
			t.Errorf("the record lacks %s: %s", want, facts)
		}
	}
}

// TestCookiesInAnotherProgram: whoever copies all cookies of a browser, and sends them with a
// program that does not name itself as that browser does, or not at all, is noticed.
func TestCookiesInAnotherProgram(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.scoring()
	touchy := risk.Default()
	touchy.Medium = 10
	r.do.Risk = &profile.Profiles{Store: r.store, Settings: touchy}
	b := r.browser()
	b.setUp()
	for range 40 {
		r.clock.move(6 * time.Hour)
		b.signIn(0).to(t)
	}
	r.clock.move(20 * time.Minute)                 // no proof is new
	b.get("/admin/people").shows(t, 200, "People") // as always
	for agent, words := range map[string]string{
		"curl/8.14.1": "an unknown kind of browser",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36": "Chrome on Windows",
	} {
		b.agent = agent
		page := b.get(b.get("/admin/people").sent(t, "/step-up?next=%2Fadmin%2Fpeople&why=people"))
		if want := "This device was never used with " + words + " before."; !strings.Contains(page.body, want) {
			t.Errorf("the page does not say: %s", want)
		}
	}
}
