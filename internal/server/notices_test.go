package server

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/test/mailtest"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// newsroom is a deployment whose notices are looked at, with a relay.
type newsroom struct {
	*Server
	t     *testing.T
	cfg   *config.Config
	log   *lockedBuffer
	relay *mailtest.Server
	ahead *atomic.Int64 // of the clock
}

func newNewsroom(t *testing.T, onPostgres bool) *newsroom {
	t.Helper()
	n := &newsroom{t: t, log: &lockedBuffer{}, relay: mailtest.Start(t), ahead: new(atomic.Int64)}
	dir := t.TempDir()
	n.cfg = testConfig(dir)
	if onPostgres {
		n.cfg.Database.SQLite, n.cfg.Database.Postgres, n.cfg.Database.MaxConnections = "", pgtest.Start(t), 8
	}
	ca := filepath.Join(dir, "ca.pem")
	check(t, os.WriteFile(ca, n.relay.PEM, 0o600))
	n.cfg.Egress.CAFiles, n.cfg.Egress.Allow = []string{ca}, []string{"127.0.0.1"}
	n.cfg.Mail = config.Mail{Host: n.relay.Host, Port: n.relay.Port, TLS: config.MailStartTLS, From: "Countersign <id@example.com>"}
	n.Server = n.open()
	n.run(n.seq.Run)
	return n
}

// open opens another process of the deployment.
func (n *newsroom) open() *Server {
	n.t.Helper()
	st, err := OpenState(n.t.Context(), n.cfg, Options{
		Log: slog.New(slog.NewJSONHandler(n.log, nil)), Migrate: true,
		Now: func() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) },
	})
	check(n.t, err)
	n.t.Cleanup(func() { check(n.t, st.Close()) })
	s, err := New(st)
	check(n.t, err)
	return s
}

// run runs a loop until the test ends, or stop is called.
func (n *newsroom) run(loop func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); loop(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	n.t.Cleanup(stop)
	return stop
}

// begun waits until the channels of the process have begun: each begins where the
// log ends.
func (n *newsroom) begun() {
	n.t.Helper()
	waitFor(n.t, func() bool {
		all, err := n.Store.Channels(n.t.Context())
		check(n.t, err)
		has := map[string]bool{}
		for _, c := range all {
			has[c.Name] = true
		}
		return has[notice.Mail] && has[notice.Alerts]
	})
}

// record commits an act as the server itself.
func (n *newsroom) record(kind audit.Kind, parts []audit.Part, changes ...act.Change) string {
	n.t.Helper()
	out, err := n.Do.Do(context.Background(), act.Intent{
		Action: policy.SandboxSeed, Kind: kind, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: changes, Parts: parts}, nil
		},
	})
	check(n.t, err)
	return out.RecordID
}

func (n *newsroom) person(username string, groups ...string) account.Person {
	n.t.Helper()
	p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Name of " + username, Username: username, Email: username + "@example.com", Verified: true}
	n.record(audit.PersonCreated, []audit.Part{{Person: p.ID}}, account.Create{Person: p, Groups: groups})
	return p
}

func (n *newsroom) admins() string {
	g, err := n.Store.GroupByName(n.t.Context(), group.Administrators)
	check(n.t, err)
	return g.ID
}

func (n *newsroom) hook(url string, events ...string) (w notice.Webhook, told string) {
	n.t.Helper()
	w = notice.Webhook{ID: id.New(id.Webhook), Name: "hook", URL: url, Events: events, ManagedBy: "api"}
	sealed, text, err := notice.NewSecret(n.Sealer, w.ID)
	check(n.t, err)
	w.Sealed = sealed
	n.record(audit.WebhookCreated, nil, notice.CreateWebhook{Webhook: w})
	return w, text.Reveal()
}

// enrolled records that somebody added a passkey.
func (n *newsroom) enrolled(p account.Person, name string) string {
	return n.record(audit.FactorEnrolled, []audit.Part{{Person: p.ID, Body: map[string]any{"with": "passkey", "name": name}}})
}

// receiver is a receiver of webhooks.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	ids    []string
	events []notify.Event
	before func(n int) (status int) // of the n-th request, from 0
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		text, _ := io.ReadAll(q.Body)
		var e notify.Event
		_ = json.Unmarshal(text, &e)
		r.mu.Lock()
		n := len(r.ids)
		r.ids, r.events = append(r.ids, q.Header.Get("webhook-id")), append(r.events, e)
		before := r.before
		r.mu.Unlock()
		status := http.StatusNoContent
		if before != nil {
			status = before(n)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

// count is how often each id came.
func (r *receiver) count() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int{}
	for _, i := range r.ids {
		out[i]++
	}
	return out
}

// TestNotices: what somebody's account goes through is mailed to them and told to
// webhooks, and a receiver that hangs holds up neither.
func TestNotices(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		dana := n.person("dana")
		silent := n.person("sam")
		n.record(audit.PersonUpdated, nil, account.Update{ID: silent.ID, Email: new(string)})
		hung, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer hung.Close()
		n.hook("http://" + hung.Addr().String())
		var verified atomic.Int32
		r := newReceiver(t)
		w, told := n.hook("", "factor.*")
		lib, err := standardwebhooks.NewWebhook(told)
		check(t, err)
		checked := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
			text, _ := io.ReadAll(q.Body)
			if lib.Verify(text, q.Header) == nil {
				verified.Add(1)
			}
		}))
		defer checked.Close()
		w.URL = checked.URL
		n.record(audit.WebhookUpdated, nil, notice.UpdateWebhook{Webhook: w})
		n.hook(r.URL)
		stop := n.run(n.notices.Run)
		n.begun()

		rec := n.enrolled(dana, "Laptop")
		n.enrolled(silent, "Phone") // who has no address
		n.record(audit.TokenIssued, []audit.Part{{Person: dana.ID}})
		renamed := n.record(audit.FactorRenamed, []audit.Part{{Person: dana.ID, Body: map[string]any{"name": "Desk"}}})
		got := n.relay.Wait(t, 2)
		if m := got[0]; m.To != dana.Email || m.Subject != "[id.example.com] A way to sign in was added" || !strings.Contains(m.Plain, "Passkey, Laptop, was added to your account.") ||
			!strings.Contains(m.Plain, "Hello Name of dana,") || !strings.Contains(m.Plain, rec) || m.Header.Get("Message-ID") != "<"+rec+"."+dana.ID+"@id.example.com>" {
			t.Errorf("%s\n%s", m.Subject, m.Plain)
		}
		waitFor(t, func() bool { return r.count()[renamed] == 1 && verified.Load() == 3 })
		r.mu.Lock()
		for i, e := range r.events {
			if e.Data.ID != r.ids[i] || e.Type == "token.issued" || e.Data.Sentence == "" || e.Timestamp.IsZero() {
				t.Errorf("%+v under %s", e, r.ids[i])
			}
		}
		r.mu.Unlock()
		for i, k := range r.count() {
			if k != 1 {
				t.Errorf("%s came %d times", i, k)
			}
		}
		stop()
		if got := n.relay.Messages(); len(got) != 2 {
			t.Errorf("%d mails", len(got))
		}
	})
}

// TestNoticesAfterAKill: what was sent and not yet remembered is sent again under
// the same id; nothing is left out, and another process takes over.
func TestNoticesAfterAKill(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		dana := n.person("dana")
		r := newReceiver(t)
		n.hook(r.URL, "factor.enrolled")
		ctx, kill := context.WithCancel(context.Background())
		r.before = func(i int) int {
			if i == 2 {
				kill() // it is received, and whoever sent it will not know
			}
			return http.StatusNoContent
		}
		dead := make(chan struct{})
		go func() { defer close(dead); n.notices.Run(ctx) }()
		var want []string
		for i := range 6 {
			want = append(want, n.enrolled(dana, fmt.Sprint("key ", i)))
		}
		<-dead
		n.ahead.Add(int64(11 * time.Second)) // were it killed, its lease would run out
		if onPostgres {
			other := n.open()
			n.run(other.notices.Run)
		} else {
			n.run(n.notices.Run)
		}
		waitFor(t, func() bool { return len(r.count()) == len(want) })
		for i, rec := range want {
			if k := r.count()[rec]; k != 1 && !(i == 2 && k == 2) {
				t.Errorf("record %d came %d times", i, k)
			}
		}
		if r.count()[want[2]] != 2 {
			t.Error("what nobody remembered having sent was not sent again")
		}
	})
}

// TestNoticesOfTwoReplicas: while both live, one delivers, and each thing once.
func TestNoticesOfTwoReplicas(t *testing.T) {
	t.Parallel()
	pgtest.Require(t)
	n := newNewsroom(t, true)
	dana := n.person("dana")
	r := newReceiver(t)
	n.hook(r.URL, "factor.enrolled")
	other := n.open()
	n.run(n.notices.Run)
	n.run(other.notices.Run)
	n.begun()
	var want []string
	for i := range 40 {
		want = append(want, n.enrolled(dana, fmt.Sprint("key ", i)))
	}
	waitFor(t, func() bool { return len(r.count()) == len(want) })
	n.relay.Wait(t, len(want))
	for i, k := range r.count() {
		if k != 1 {
			t.Errorf("%s came %d times", i, k)
		}
	}
	if a, b := n.notices.Stats().Delivering, other.notices.Stats().Delivering; a == b {
		t.Errorf("delivering: %v and %v", a, b)
	}
	if got := len(n.relay.Messages()); got != len(want) {
		t.Errorf("%d mails", got)
	}
}

// TestDeadLetters: an address that nobody has becomes a dead letter at once, and
// holds up nobody; sent again, once it works, it arrives. One that is refused for
// now is tried again by itself. A relay that is away holds what there is.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		dana, sam, kim := n.person("dana"), n.person("sam"), n.person("kim")
		n.relay.Answer(dana.Email, "550 5.1.1 nobody")
		n.relay.Answer(sam.Email, "450 4.2.1 later")
		n.relay.Down(true)
		n.run(n.notices.Run)
		n.begun()
		n.enrolled(dana, "A")
		n.enrolled(sam, "B")
		n.enrolled(kim, "C")
		waitFor(t, func() bool { return n.relay.Connections() > 1 })
		if waiting, dead, err := n.Store.Undelivered(t.Context()); err != nil || waiting+dead != 0 {
			t.Errorf("a relay that is away: %d waiting, %d dead, %v", waiting, dead, err)
		}
		n.relay.Down(false)
		if got := n.relay.Wait(t, 1); got[0].To != kim.Email {
			t.Errorf("%+v", got[0])
		}
		letters, err := n.Store.DeadLetters(t.Context(), "", 10)
		check(t, err)
		if len(letters) != 1 || letters[0].Person != dana.ID || letters[0].Why != "the mail relay refused it: 550 5.1.1" {
			t.Fatalf("%+v", letters)
		}
		n.relay.Answer(dana.Email, "")
		n.relay.Answer(sam.Email, "")
		n.record(audit.DeliveryResent, nil, notice.Resend{ID: letters[0].ID})
		n.ahead.Add(int64(10 * time.Second)) // sam's turn
		n.relay.Wait(t, 3)
		waitFor(t, func() bool {
			waiting, dead, err := n.Store.Undelivered(t.Context())
			return err == nil && waiting+dead == 0
		})
	})
}

// TestAHookThatIsGone: who answers 410 is not called again, and says so in the log.
func TestAHookThatIsGone(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t, false)
	dana := n.person("dana")
	r := newReceiver(t)
	r.before = func(int) int { return http.StatusGone }
	w, _ := n.hook(r.URL, "factor.enrolled")
	n.run(n.notices.Run)
	n.begun()
	n.enrolled(dana, "A")
	waitFor(t, func() bool {
		got, err := n.Store.Webhook(t.Context(), w.ID)
		return err == nil && !got.Node.Live()
	})
	n.enrolled(dana, "B")
	n.relay.Wait(t, 2)
	if k := len(r.count()); k != 1 {
		t.Errorf("called for %d records", k)
	}
}

// TestAlerts: what happens again and again to one is one alert; what happens to
// many is no more than its turns in an hour; administrators with a proved address
// get it, with what happened.
func TestAlerts(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		boss := n.person("boss", n.admins())
		dana := n.person("dana")
		r := newReceiver(t)
		n.hook(r.URL, "alert.*")
		n.run(n.notices.Run)
		n.begun()
		for range 20 {
			n.record(audit.RefreshReused, []audit.Part{{Person: dana.ID}})
		}
		waitFor(t, func() bool { return n.notices.Stats().AlertsHeld == 19 })
		for i := range 20 {
			n.record(audit.RefreshReused, []audit.Part{{Person: n.person(fmt.Sprint("p", i)).ID}})
		}
		waitFor(t, func() bool { return n.notices.Stats().AlertsHeld == 30 })
		waitFor(t, func() bool { return len(r.count()) == 10 })
		var toBoss []mailtest.Message
		waitFor(t, func() bool {
			toBoss = nil
			for _, m := range n.relay.Messages() {
				if m.To == boss.Email {
					toBoss = append(toBoss, m)
				}
			}
			return len(toBoss) == 10
		})
		if m := toBoss[0]; m.Subject != "[id.example.com] Alert: A refresh token was used twice" || !strings.Contains(m.Plain, "Name of dana") || !strings.Contains(m.Plain, "(warning)") {
			t.Errorf("%s\n%s", m.Subject, m.Plain)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if d := r.events[0].Data; d.Alert != "refresh_reuse" || d.Severity != "warning" || d.Of == "" || len(d.Persons) != 0 {
			t.Errorf("%+v", d)
		}
	})
}

// TestAlertsAboutTheLog: that the log stands still is mailed though it stands
// still; it stands among the alerts until it is over, and is told once.
func TestAlertsAboutTheLog(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t, false)
	n.person("boss", n.admins())
	var broken atomic.Bool
	n.notices.Every = 20 * time.Millisecond
	n.notices.Conditions = []notify.Condition{{Rule: notice.LogBehind, Check: func(context.Context) (bool, string, error) { return broken.Load(), "it waits", nil }}}
	n.run(n.notices.Run)
	broken.Store(true)
	got := n.relay.Wait(t, 1)
	if got[0].Subject != "[id.example.com] Alert: The audit log stands still" || !strings.Contains(got[0].Plain, "it waits") {
		t.Errorf("%s\n%s", got[0].Subject, got[0].Plain)
	}
	standing := func() int {
		all, err := n.Store.Standing(t.Context())
		check(t, err)
		return len(all)
	}
	waitFor(t, func() bool { return standing() == 1 })
	w := ask(n.Operations(), http.MethodGet, "/metrics", "")
	if !strings.Contains(w.Body.String(), `countersign_alert{alert="log_behind",severity="critical"} 1`) {
		t.Error("the metrics do not say so")
	}
	broken.Store(false)
	waitFor(t, func() bool { return standing() == 0 })
	time.Sleep(500 * time.Millisecond) // the channel has passed the records
	if got := n.relay.Messages(); len(got) != 1 {
		t.Errorf("told %d times", len(got))
	}
}

// TestNotWitnessed: once a witness has signed, its silence is found while the log
// grows; without witnesses there is nothing to find.
func TestNotWitnessed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		n.person("dana")
		found := func() bool {
			holds, _, err := n.notWitnessed(t.Context())
			check(t, err)
			return holds
		}
		waitFor(t, func() bool {
			signed, _, err := n.Store.LastSigned(t.Context())
			return err == nil && signed > 1
		})
		if found() {
			t.Error("found without a witness")
		}
		if onPostgres {
			return // the rest is the same statement over rows that a witness writes
		}
		db, err := sql.Open("sqlite", "file:"+n.cfg.Database.SQLite+"?_pragma=busy_timeout(10000)")
		check(t, err)
		defer db.Close()
		cosigned := func(size int, at time.Time) {
			_, err := db.Exec(`INSERT INTO cosignature (epoch, size, witness, at, line) VALUES (1, ?, 'w', ?, '')`, size, at.UnixMicro())
			check(t, err)
		}
		cosigned(1, n.now().Add(-11*time.Minute))
		if !found() {
			t.Error("the silence of a witness was not found")
		}
		cosigned(2, n.now())
		if found() {
			t.Error("found though a witness has just signed")
		}
	})
}

// TestBroadTokens: the definition.
func TestBroadTokens(t *testing.T) {
	many := strings.Fields("a b c d e f g h i j k l m")
	admin := func(s string) bool { return s == "admin" }
	identity := func(s string) bool { return s == "openid" || s == "offline_access" }
	for name, c := range map[string]struct {
		t     notice.Token
		broad bool
	}{
		"thirteen scopes":        {notice.Token{Scopes: many}, true},
		"twelve and openid":      {notice.Token{Scopes: append([]string{"openid"}, many[1:]...)}, false},
		"admin for now":          {notice.Token{Scopes: []string{"admin"}}, false},
		"admin for long":         {notice.Token{Scopes: []string{"admin", "offline_access"}}, true},
		"reading for long":       {notice.Token{Scopes: []string{"read", "offline_access"}}, false},
		"our own admin for long": {notice.Token{Scopes: []string{"admin", "offline_access"}, FirstParty: true}, false},
	} {
		c.t.Elevated, c.t.Identity = admin, identity
		if why := c.t.Broad(); (why != "") != c.broad {
			t.Errorf("%s: %q", name, why)
		}
	}
}

// onEach runs a test on both databases.
func onEach(t *testing.T, f func(t *testing.T, onPostgres bool)) {
	t.Run("sqlite", func(t *testing.T) { f(t, false) })
	t.Run("postgres", func(t *testing.T) { pgtest.Require(t); f(t, true) })
}

// TestEmailLinkIsMailed: the link that proves an address goes to that address
// only, is made when it is sent, and leads to the configured issuer whatever the
// request said; a changed address is told to the address that was.
func TestEmailLinkIsMailed(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t, false)
	dana := n.person("dana")
	n.run(n.notices.Run)
	n.begun()
	address := "new@example.com"
	n.record(audit.EmailChanged, []audit.Part{{Person: dana.ID, Body: map[string]any{"before": dana.Email}}}, account.Update{ID: dana.ID, Email: &address})
	n.record(audit.EmailAsked, []audit.Part{{Person: dana.ID, Body: map[string]any{"address": "stale@example.com"}}})
	n.record(audit.EmailAsked, []audit.Part{{Person: dana.ID, Body: map[string]any{"address": address}}})
	got := n.relay.Wait(t, 2)
	if got[0].To != dana.Email || got[0].Subject != "[id.example.com] Your e-mail address was changed" {
		t.Errorf("%s: %s", got[0].To, got[0].Subject)
	}
	link := got[1].Plain[strings.Index(got[1].Plain, "https://"):]
	link, _, _ = strings.Cut(link, "\n")
	if got[1].To != address || !strings.HasPrefix(link, testIssuer+"/email?link=cs_email_") {
		t.Fatalf("%s: %s", got[1].To, got[1].Plain)
	}
	h, err := n.Handler()
	check(t, err)
	r := httptest.NewRequest(http.MethodGet, strings.TrimPrefix(link, testIssuer), nil)
	r.Host = "evil.example"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), address) || strings.Contains(w.Body.String(), "evil.example") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(n.log.String(), "cs_email_") {
		t.Error("the link's secret is in the server's log")
	}
	time.Sleep(300 * time.Millisecond)
	if n := len(n.relay.Messages()); n != 2 {
		t.Errorf("%d mails: one went to an address that is not the account's", n)
	}
}
