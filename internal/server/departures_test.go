package server

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

// listener is an app that is told when sessions end.
type listener struct {
	*httptest.Server
	mu     sync.Mutex
	told   []map[string]any
	header []map[string]any
	before func(n int) (status int)
}

func newListener(t *testing.T) *listener {
	l := &listener{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.PostFormValue("logout_token"), ".")
		var head, claims map[string]any
		if len(parts) == 3 && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
			for i, v := range []any{&head, &claims} {
				text, _ := base64.RawURLEncoding.DecodeString(parts[i])
				_ = json.Unmarshal(text, v)
			}
		}
		l.mu.Lock()
		n := len(l.told)
		l.told, l.header = append(l.told, claims), append(l.header, head)
		before := l.before
		l.mu.Unlock()
		if before != nil {
			w.WriteHeader(before(n))
		}
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *listener) sids() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []string{}
	for _, c := range l.told {
		s, _ := c["sid"].(string)
		out = append(out, s)
	}
	return out
}

// app registers an app that is told at an address.
func (n *newsroom) app(name, uri string) client.Client {
	n.t.Helper()
	c := client.Client{
		ID: id.New(id.Client), ClientID: name, Name: name, AuthMethod: client.AuthNone, GrantTypes: []client.GrantType{client.AuthorizationCode},
		RedirectURIs: []string{"https://" + name + ".example.com/cb"},
	}
	c.BackchannelURI, c.SubjectType = uri, client.Pairwise
	check(n.t, client.Check(c))
	n.record(audit.ClientCreated, nil, client.Create{Client: c})
	return c
}

// signedIn is a session of somebody who let apps in.
func (n *newsroom) signedIn(p account.Person, key string, apps ...client.Client) string {
	n.t.Helper()
	ses, dev := id.New(id.Session), session.Device{ID: id.New(id.Device), Label: "Firefox"}
	list := []act.Change{session.Open{
		Session:    session.Session{ID: ses, Person: p.ID, ExpiresAt: n.now().Add(time.Hour), IdleUntil: n.now().Add(time.Hour)},
		SecretHash: secret.New(secret.Session).Hash(), NewDevice: &dev, DeviceHash: secret.New(secret.Device).Hash(), Credentials: []string{key},
	}}
	for _, c := range apps {
		list = append(list, grant.Open{Grant: grant.Grant{ID: id.New(id.Grant), Person: p.ID, Client: c.ID, Session: ses, Scopes: []string{"openid"}, ExpiresAt: n.now().Add(time.Hour)}})
	}
	n.record(audit.SessionOpened, []audit.Part{{Person: p.ID}}, list...)
	return ses
}

func (n *newsroom) passkey(p account.Person) string {
	n.t.Helper()
	k := factor.Passkey{ID: id.New(id.Credential), Person: p.ID, Name: "Key", PublicKey: []byte{1}, RPID: "id.example.com"}
	k.CredentialID = []byte(k.ID)
	n.record(audit.FactorEnrolled, []audit.Part{{Person: p.ID}}, factor.Enrol{Passkey: k})
	return k.ID
}

// listening waits until the apps' channels have begun.
func (n *newsroom) listening(apps ...client.Client) {
	n.t.Helper()
	waitFor(n.t, func() bool {
		all, err := n.Store.Channels(n.t.Context())
		check(n.t, err)
		return !slices.ContainsFunc(apps, func(c client.Client) bool {
			return !slices.ContainsFunc(all, func(ch notice.Channel) bool { return ch.Name == c.ID })
		})
	})
}

// TestAppsAreToldOfTheEnd: however a session ends, each app that took part in it is
// told once, by the names under which it knows session and person, and no other app
// is; one that hangs holds nobody up.
func TestAppsAreToldOfTheEnd(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		hung, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer hung.Close()
		one, two := newListener(t), newListener(t)
		board, wiki, stuck := n.app("board", one.URL), n.app("wiki", two.URL+"/logout?tenant=1"), n.app("stuck", "http://"+hung.Addr().String())
		n.run(n.notices.Run)
		n.listening(board, wiki, stuck)
		end := func(id string) act.Change { return lineage.End{ID: id, Why: "test"} }
		cases := map[string]struct {
			kind audit.Kind
			make func(p account.Person, ses, key string) []act.Change
			anon bool
		}{
			"signed out": {audit.SessionEnded, func(_ account.Person, ses, _ string) []act.Change { return []act.Change{session.SignOut{ID: ses}} }, false},
			"ended":      {audit.SessionEnded, func(_ account.Person, ses, _ string) []act.Change { return []act.Change{end(ses)} }, false},
			"device":     {audit.DeviceEnded, func(_ account.Person, ses, _ string) []act.Change { return []act.Change{end(ses)} }, false},
			"recovered":  {audit.RecoveryCompleted, func(_ account.Person, ses, _ string) []act.Change { return []act.Change{end(ses)} }, false},
			"disabled": {audit.PersonDisabled, func(p account.Person, _, _ string) []act.Change {
				return []act.Change{lineage.Freeze{ID: p.ID, Why: "x"}}
			}, false},
			"erased":         {audit.PersonErased, func(p account.Person, _, _ string) []act.Change { return []act.Change{end(p.ID)} }, true},
			"factor removed": {audit.FactorRemoved, func(_ account.Person, _, key string) []act.Change { return []act.Change{end(key)} }, false},
		}
		subs, want := map[string]string{}, []string{}
		for name, c := range cases {
			p := n.person(strings.ReplaceAll(name, " ", "-"))
			key := n.passkey(p)
			ses, other := n.signedIn(p, key, board, stuck), n.signedIn(p, n.passkey(p), wiki)
			sid := n.sid(board, ses)
			subs[sid], want = name, append(want, sid)
			var parts []audit.Part
			if !c.anon {
				parts = []audit.Part{{Person: p.ID}}
			}
			n.record(c.kind, parts, c.make(p, ses, key)...)
			if c.kind == audit.PersonDisabled || c.anon { // every session of theirs is over
				want2 := n.sid(wiki, other)
				waitFor(t, func() bool { return slices.Contains(two.sids(), want2) })
			}
		}
		n.record(audit.SessionSeen, nil)
		waitFor(t, func() bool { return len(one.sids()) >= len(want) })
		time.Sleep(300 * time.Millisecond) // nothing comes twice
		for _, sid := range want {
			if k := len(slices.DeleteFunc(one.sids(), func(s string) bool { return s != sid })); k != 1 {
				t.Errorf("%s was told %d times", subs[sid], k)
			}
		}
		if got := len(two.sids()); got != 2 {
			t.Errorf("an app that took part in nothing else was told %d times", got)
		}
		one.mu.Lock()
		defer one.mu.Unlock()
		for i, c := range one.told {
			if one.header[i]["typ"] != "logout+jwt" || c["aud"] != "board" || c["iss"] != n.Config.Issuer || c["events"] == nil || c["nonce"] != nil || c["sub"] == nil {
				t.Errorf("%v %v", one.header[i], c)
			}
		}
	})
}

// sid is a client's name of a session.
func (n *newsroom) sid(c client.Client, ses string) string {
	n.t.Helper()
	s, err := n.Store.Session(n.t.Context(), ses)
	check(n.t, err)
	text, err := n.oauth.LogoutToken(n.t.Context(), c, s)
	check(n.t, err)
	var m map[string]any
	body, _ := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	check(n.t, json.Unmarshal(body, &m))
	return m["sid"].(string)
}

// TestAppsAreToldAgain: an app that could not end the session is told again, with a
// token of its own, and at last there is a dead letter that says why.
func TestAppsAreToldAgain(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		l := newListener(t)
		l.before = func(i int) int {
			if i == 0 {
				return http.StatusBadRequest
			}
			return http.StatusOK
		}
		board := n.app("board", l.URL)
		n.run(n.notices.Run)
		n.listening(board)
		p := n.person("dana")
		ses := n.signedIn(p, n.passkey(p), board)
		n.record(audit.SessionEnded, []audit.Part{{Person: p.ID}}, lineage.End{ID: ses, Why: "test"})
		waitFor(t, func() bool { return len(l.sids()) == 1 })
		waitFor(t, func() bool { w, _, err := n.Store.Undelivered(t.Context()); return err == nil && w == 1 })
		n.ahead.Add(int64(10 * time.Second))
		waitFor(t, func() bool { return len(l.sids()) == 2 })
		waitFor(t, func() bool { w, d, err := n.Store.Undelivered(t.Context()); return err == nil && w+d == 0 })
		if l.told[0]["jti"] == l.told[1]["jti"] || l.told[0]["sid"] != l.told[1]["sid"] {
			t.Errorf("%v, then %v", l.told[0], l.told[1])
		}
		l.mu.Lock()
		l.before = func(int) int { return http.StatusServiceUnavailable }
		l.mu.Unlock()
		ses = n.signedIn(p, n.passkey(p), board)
		n.record(audit.SessionEnded, []audit.Part{{Person: p.ID}}, session.SignOut{ID: ses})
		for range 12 {
			n.ahead.Add(int64(12 * time.Hour))
			time.Sleep(50 * time.Millisecond)
			if _, dead, err := n.Store.Undelivered(t.Context()); err == nil && dead == 1 {
				break
			}
		}
		waitFor(t, func() bool {
			_, d, err := n.Store.Undelivered(t.Context())
			n.ahead.Add(int64(time.Hour))
			return err == nil && d == 1
		})
		letters, err := n.Store.DeadLetters(t.Context(), "", 10)
		if err != nil || len(letters) != 1 || letters[0].Channel != board.ID || letters[0].Person != ses || letters[0].Why != "the receiver answered 503" {
			t.Errorf("%+v %v", letters, err)
		}
	})
}

// TestAppsOutsideOnly: an app's address within the own network is called only where
// the configuration allows it.
func TestAppsOutsideOnly(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t, false)
	l := newListener(t)
	board := n.app("board", strings.Replace(l.URL, "127.0.0.1", "localhost", 1)) // not on the list by that name
	n.run(n.notices.Run)
	n.listening(board)
	p := n.person("dana")
	ses := n.signedIn(p, n.passkey(p), board)
	n.record(audit.SessionEnded, []audit.Part{{Person: p.ID}}, lineage.End{ID: ses, Why: "test"})
	waitFor(t, func() bool { w, _, err := n.Store.Undelivered(t.Context()); return err == nil && w == 1 })
	if len(l.sids()) != 0 {
		t.Error("it was called")
	}
}
