package pep_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/jose"
)

// keeping is a folder, and the edit that has it used.
func keeping(t *testing.T) (dir string, edit func(*countersign.Config)) {
	dir = filepath.Join(t.TempDir(), "kept")
	return dir, func(c *countersign.Config) { c.Keep = dir }
}

// file is the one file of a folder, once it is there.
func file(t *testing.T, dir string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if list, _ := filepath.Glob(filepath.Join(dir, "policies-*.json")); len(list) == 1 {
			return list[0]
		}
	}
	t.Fatal("nothing is kept")
	return ""
}

// later is a clock that is ahead, of the resource server and of tokens.
func (i *issuer) later(by time.Duration) func(*countersign.Config) {
	i.ahead.Store(int64(by))
	return func(c *countersign.Config) { c.Now = func() time.Time { return time.Now().Add(by) } }
}

// TestBeginsAlone: a resource server that starts while the issuer does not answer decides
// by the policies that it kept, as if it had gone on: for five minutes what it decides,
// and for a day what may be decided in an outage.
func TestBeginsAlone(t *testing.T) {
	i := newIssuer(t)
	dir, keep := keeping(t)
	first := i.ready(i.point(keep))
	path := file(t, dir)
	first.Close()
	if f, err := os.Stat(path); err != nil || f.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", f, err)
	}
	i.down.Store(true)
	who := holder{sub: dana, acr: "phr"}
	for _, c := range []struct {
		after        time.Duration
		look, deploy int
	}{{0, 200, 200}, {4 * time.Minute, 200, 200}, {time.Hour, 200, 503}, {23 * time.Hour, 200, 503}} {
		v := i.point(keep, i.later(c.after))
		if s := v.PolicyStatus(); !s.Held || s.Version != 1 || s.Epoch != 1 || s.Age < c.after-time.Minute {
			t.Errorf("after %s: %+v", c.after, s)
		}
		for action, want := range map[string]int{"look": c.look, "deploy": c.deploy, "destroy": 503} {
			if w := i.tries(v, who, action, prod); w.Code != want {
				t.Errorf("after %s, %s: %d, want %d", c.after, action, w.Code, want)
			}
		}
		if w := i.tries(v, holder{sub: sam, acr: "phr"}, "deploy", countersign.Resource{Type: "Cluster", ID: "prod"}); c.deploy == 200 && w.Code != 403 {
			t.Errorf("somebody else: %d", w.Code)
		}
	}
	for name, edits := range map[string][]func(*countersign.Config){
		"nothing is kept": {},
		"it is too old":   {keep, i.later(25 * time.Hour)},
		"it is of later":  {keep, i.later(-time.Hour)},
		"of another":      {keep, func(c *countersign.Config) { c.Audience = "https://other.example.com" }},
		"no policies":     {keep, func(c *countersign.Config) { c.Policies = nil }},
	} {
		if v, err := i.starts(edits...); err == nil {
			t.Errorf("%s, and it begins: %+v", name, v.PolicyStatus())
		}
	}
	// The issuer answers again: it is asked as ever.
	i.ahead.Store(0)
	v := i.point(keep)
	i.down.Store(false)
	v.RefreshPolicies()
	i.ready(v) // which it is with what was kept, too
	ok(t, until(func() bool { v.RefreshPolicies(); return v.PolicyStatus().Fetched > 0 }))
	if s := v.PolicyStatus(); s.Age > time.Minute {
		t.Errorf("%+v", s)
	}
}

// starts is point where it may fail.
func (i *issuer) starts(edit ...func(*countersign.Config)) (*countersign.Verifier, error) {
	cfg := i.config(edit...)
	v, err := countersign.New(i.Context(), cfg)
	if err == nil {
		i.Cleanup(v.Close)
	}
	return v, err
}

// TestKeptIsVerified: what is read from the folder is held to what comes from the network
// is: signature, form and hash; and it is never gone back behind.
func TestKeptIsVerified(t *testing.T) {
	i := newIssuer(t)
	i.publish(2, 5, dana)
	dir, keep := keeping(t)
	i.ready(i.point(keep)).Close()
	path := file(t, dir)
	good, err := os.ReadFile(path)
	ok(t, err)
	stranger := newIssuer(t)
	i.mu.Lock()
	head := i.head
	i.mu.Unlock()
	head.IssuedAt = jose.Date(time.Now())
	forged, err := stranger.signer(jose.TypBundle).Sign(head)
	ok(t, err)
	i.down.Store(true)
	for name, text := range map[string][]byte{
		"cut off":       good[:len(good)/2],
		"empty":         {},
		"content":       bytes.Replace(good, []byte("release"), []byte("reloase"), 1),
		"another's key": bytes.Replace(good, between(good, `"head":"`), []byte(forged), 1),
		"no keys":       bytes.Replace(good, []byte(`"keys":{"keys":[`), []byte(`"keys":{"others":[`), 1),
		"format":        bytes.Replace(good, []byte(`"format":1`), []byte(`"format":2`), 1),
		"issuer":        bytes.Replace(good, []byte(i.url), []byte("https://evil.example"), 1),
	} {
		if bytes.Equal(text, good) {
			t.Fatalf("%s: nothing is changed", name)
		}
		ok(t, os.WriteFile(path, text, 0o600))
		if v, err := i.starts(keep); err == nil {
			t.Errorf("%s: it begins with %+v", name, v.PolicyStatus())
		}
	}
	ok(t, os.WriteFile(path, good, 0o600))
	v := i.point(keep)
	i.publish(2, 4, dana)
	i.down.Store(false)
	for end := time.Now().Add(time.Minute); v.PolicyStatus().Rejected == 0; time.Sleep(5 * time.Millisecond) {
		if v.RefreshPolicies(); time.Now().After(end) {
			t.Fatal("nothing older was refused")
		}
	}
	if s := v.PolicyStatus(); s.Version != 5 || s.Epoch != 2 {
		t.Errorf("it went back: %+v", s)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
		t.Errorf("what is older is kept: %v", err)
	}
	// A newer version that says the same is kept at once.
	i.publish(2, 6, dana)
	for end := time.Now().Add(time.Minute); v.PolicyStatus().Version != 6; time.Sleep(5 * time.Millisecond) {
		if v.RefreshPolicies(); time.Now().After(end) {
			t.Fatal("it does not hear of the next version")
		}
	}
	v.Close()
	i.down.Store(true)
	if s := i.point(keep).PolicyStatus(); s.Version != 6 {
		t.Errorf("it begins with %+v", s)
	}
}

// between is what stands in a text behind a mark, up to the next quote or brace.
func between(text []byte, mark string) []byte {
	_, rest, _ := bytes.Cut(text, []byte(mark))
	return rest[:bytes.IndexAny(rest, `"}`)]
}

// TestKeepIsGuarded: where everybody may write, or another user, nothing is kept, and
// nothing read.
func TestKeepIsGuarded(t *testing.T) {
	i := newIssuer(t)
	dir, keep := keeping(t)
	i.ready(i.point(keep)).Close()
	for name, spoil := range map[string]func() error{
		"everybody's":  func() error { return os.Chmod(dir, 0o777) },
		"a shared one": func() error { return os.Chmod(dir, 0o777|fs.ModeSticky) },
		"a stranger's": func() error {
			if os.Geteuid() != 0 {
				return os.Chmod(dir, 0o702) // only root gives a folder away
			}
			return errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, 4242, 4242))
		},
	} {
		ok(t, spoil())
		if v, err := i.starts(keep); err == nil || !strings.Contains(err.Error(), "Keep") {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	ok(t, os.Chmod(dir, 0o770))
	if os.Geteuid() == 0 {
		ok(t, os.Chown(dir, 0, 0))
	}
	i.point(keep)
}

// TestEndedIsNotKept: whether a token has ended is asked until the feed was heard; where
// that cannot be, only a route that says so takes it.
func TestEndedIsNotKept(t *testing.T) {
	i := newIssuer(t)
	dir, keep := keeping(t)
	i.ready(i.point(keep)).Close()
	file(t, dir)
	i.down.Store(true)
	withFeed := func(c *countersign.Config) { c.NoFeed = false }
	v := i.point(keep, withFeed)
	for name, c := range map[string]struct {
		status int
		needs  []countersign.Requirement
	}{
		"nothing is said": {503, nil},
		"allow":           {200, []countersign.Requirement{countersign.OnOutage(countersign.OutageAllow)}},
		"refuse":          {503, []countersign.Requirement{countersign.OnOutage(countersign.OutageRefuse)}},
		"sensitive":       {503, []countersign.Requirement{countersign.OnOutage(countersign.OutageAllow), countersign.Sensitive()}},
	} {
		r := httptest.NewRequest(http.MethodPost, aud+"/", strings.NewReader(""))
		r.Header.Set("Authorization", "Bearer "+i.token(holder{sub: dana, acr: "phr"}))
		w := httptest.NewRecorder()
		v.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), c.needs...).ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", name, w.Code, c.status)
		}
	}
}
