package clilogin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/problem"
)

// newStore makes a store in folders of the test's own.
func newStore(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]string{
		"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state",
	} {
		t.Setenv(name, filepath.Join(dir, at))
	}
	s, err := OpenStore("countersign")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newCredential is one as a login makes it.
func newCredential(t *testing.T) *Credential {
	t.Helper()
	key, err := countersign.GenerateDPoPKey()
	if err != nil {
		t.Fatal(err)
	}
	pem, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return &Credential{Issuer: "https://id.example.com", ClientID: "c", Subject: "s", Key: string(pem), RefreshToken: "cs_rt_secret", LoginAt: time.Now().UTC()}
}

func TestWriteHoldsTheGeneration(t *testing.T) {
	s := newStore(t)
	a := newCredential(t)
	if err := s.write("default", a, 0); err != nil || a.Generation != 1 {
		t.Fatalf("first write: generation %d, %v", a.Generation, err)
	}
	if err := s.write("default", newCredential(t), 0); problem.CodeOf(err) != CodeStorageRaced {
		t.Fatalf("a second first write: %v", err)
	}
	stale := *a
	if err := s.write("default", a, 1); err != nil || a.Generation != 2 {
		t.Fatalf("second write: generation %d, %v", a.Generation, err)
	}
	if err := s.write("default", &stale, 1); problem.CodeOf(err) != CodeStorageRaced {
		t.Fatalf("write over a newer generation: %v", err)
	}
	if err := s.remove("default", 1); problem.CodeOf(err) != CodeStorageRaced {
		t.Fatalf("removal of a newer generation: %v", err)
	}
	if c, err := s.Load("default"); err != nil || c.Generation != 2 {
		t.Fatalf("after all: %v, %v", c, err)
	}
	if err := s.remove("default", 2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("default"); !errors.Is(err, problem.Unauthenticated) {
		t.Fatalf("after removal: %v", err)
	}
}

func TestWriteLeavesNothingBehind(t *testing.T) {
	s := newStore(t)
	if err := s.write("default", newCredential(t), 0); err != nil {
		t.Fatal(err)
	}
	// A folder that cannot be written to: the old file stays whole.
	if os.Geteuid() != 0 {
		if err := os.Chmod(s.dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if err := s.write("default", newCredential(t), 1); problem.CodeOf(err) != CodeStorage {
			t.Fatalf("write into a read-only folder: %v", err)
		}
		if err := os.Chmod(s.dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(s.dir, ".*"))
	if err != nil || len(files) != 0 {
		t.Fatalf("left behind: %v %v", files, err)
	}
}

func TestLockExcludes(t *testing.T) {
	s := newStore(t)
	var wait sync.WaitGroup
	var inside, n atomic.Int32 // the race detector does not know of file locks
	for range 16 {
		wait.Go(func() {
			release, err := s.lock(t.Context(), "default", lockWrite)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if inside.Add(1) != 1 {
				t.Error("two hold the lock")
			}
			time.Sleep(time.Millisecond)
			n.Add(1)
			inside.Add(-1)
		})
	}
	wait.Wait()
	if n.Load() != 16 {
		t.Fatalf("%d held it", n.Load())
	}
	release, err := s.lock(t.Context(), "default", lockWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.lock(ctx, "default", lockWrite); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a lock that is held: %v", err)
	}
	if other, ok, err := s.tryLock("default", lockPrompt); err != nil || !ok {
		t.Fatalf("the other kind: %v %v", ok, err)
	} else {
		other()
	}
}

func TestProfileNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"default": true, "work-2": true, "dana@example.com": true, "": false, "../x": false, "a/b": false, ".hidden": false, "a.": false, "a b": false, "a\x00": false,
	} {
		if err := CheckProfile(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole, err := newCredential(t).encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"nothing":        {"", errTorn},
		"half":           {string(whole[:len(whole)/2]), errTorn},
		"no version":     {`{"issuer":"x"}`, errTorn},
		"newer":          {`{"version":2}`, errNewer},
		"unknown member": {`{"version":1,"generation":1,"nope":1}`, errTorn},
		"no generation":  {string(whole), errTorn},
		"another's key":  {`{"version":1,"generation":1,"issuer":"a","client_id":"b","dpop_key":"x","login_at":"2026-01-02T03:04:05Z"}`, errTorn},
	} {
		if got, err := decode([]byte(c.text)); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"generation":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := decode(text); err != nil && c != nil {
			t.Fatal("an error and a value")
		}
	})
}

func TestKeep(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	c := &Credential{}
	at := func(audience string, life time.Duration, narrowed ...string) Token {
		return Token{Audience: audience, Narrowed: narrowed, Value: audience, Scope: []string{audience}, IssuedAt: now, ExpiresAt: now.Add(life)}
	}
	c.keep(at("a", time.Minute), now)
	c.keep(at("a", 2*time.Minute), now)
	c.keep(at("a", 2*time.Minute, "x"), now)
	if len(c.Access) != 2 {
		t.Fatalf("tokens: %v", c.Access)
	}
	c.keep(at("b", 10*time.Minute), now.Add(3*time.Minute))
	if len(c.Access) != 1 || c.Access[0].Audience != "b" {
		t.Fatalf("expired ones stay: %v", c.Access)
	}
	for i := range 50 {
		c.keep(at(strconv.Itoa(i), time.Duration(10+i)*time.Minute), now)
	}
	if _, ok := c.find("b", nil); len(c.Access) != maxTokens || ok {
		t.Fatalf("%d tokens", len(c.Access))
	}
}

func TestNothingShowsSecrets(t *testing.T) {
	c := newCredential(t)
	c.Access = []Token{{Value: "eyJsecret"}}
	for _, text := range []string{c.String(), c.GoString(), c.LogValue().String(), c.Access[0].String(), c.Access[0].LogValue().String()} {
		if contains(text, "secret") || contains(text, "PRIVATE") {
			t.Errorf("%q", text)
		}
	}
}
