package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/store"
)

// found looks at one condition as the notices do.
func found(t *testing.T, s *Server, rule string) (bool, string) {
	t.Helper()
	for _, c := range s.conditions() {
		if c.Rule == rule {
			holds, how, err := c.Check(t.Context())
			check(t, err)
			return holds, how
		}
	}
	t.Fatalf("nobody looks for %s", rule)
	return false, ""
}

// behind says how the log stands still, "" if it does not.
func behind(t *testing.T, s *Server) string {
	t.Helper()
	holds, how := found(t, s, notice.LogBehind)
	if !holds {
		return ""
	}
	return how
}

// sequencing runs the sequencer until something holds.
func sequencing(t *testing.T, s *Server, until func(store.Counts) bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.seq.Run(ctx) }()
	defer func() { stop(); <-done }()
	waitFor(t, func() bool {
		c, err := s.Store.Counts(t.Context())
		check(t, err)
		return until(c)
	})
}

// TestOldCheckpointIsFound: records that nobody signs for long are the alert that the
// log stands still; those of a moment are not.
func TestOldCheckpointIsFound(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	if how := behind(t, s); how != "" {
		t.Errorf("of a new log: %s", how)
	}
	sequencing(t, s, func(c store.Counts) bool { return c.Signed > 0 && c.Signed == c.Records })
	_, signed, err := s.Store.LastSigned(t.Context())
	check(t, err)
	seen := make(chan struct{})
	s.seq = s.Store.Sequencer(store.SequencerOptions{ // numbers, and does not come to sign
		Origin: "id.example.com/log/1", Log: s.log, Poll: 10 * time.Millisecond, Every: time.Millisecond,
		Sign: func(string, uint64, [32]byte) ([]byte, error) {
			select {
			case <-seen:
			case <-time.After(time.Minute): // it was not seen, and the test has failed
			}
			return []byte("note"), nil
		},
	})
	check(t, s.Seed(t.Context(), audit.RefusalsCounted))
	sequencing(t, s, func(c store.Counts) bool {
		if c.Records == c.Signed {
			return false
		}
		s.now = func() time.Time { return signed.Add(behindFor) }
		if how := behind(t, s); how != "" {
			t.Errorf("of a record of this moment: %s", how)
		}
		s.now = func() time.Time { return signed.Add(behindFor + time.Second) }
		if how := behind(t, s); how != "no checkpoint was signed for long" {
			t.Errorf("of a checkpoint that is old: %q", how)
		}
		close(seen)
		return true
	})
}

// TestStandingLogIsFound: a sequencer that cannot sign is the same alert, until it can.
func TestStandingLogIsFound(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	var broken atomic.Bool
	broken.Store(true)
	s.seq = s.Store.Sequencer(store.SequencerOptions{
		Origin: "id.example.com/log/1", Log: s.log, Poll: 10 * time.Millisecond, Every: time.Millisecond,
		Sign: func(string, uint64, [32]byte) ([]byte, error) {
			if broken.Load() {
				return nil, errors.New("the key store is away")
			}
			return []byte("note"), nil
		},
	})
	sequencing(t, s, func(store.Counts) bool {
		how := behind(t, s)
		if !broken.Load() {
			return how == ""
		}
		if how == "the log does not grow" {
			broken.Store(false)
		}
		return false
	})
}

// TestDiskHeadroomIsFound: a reserve that had to be used is the alert that the disk is
// nearly full, until there is room for it again.
func TestDiskHeadroomIsFound(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	check(t, os.WriteFile(cfg.Database.SQLite+".reserve", nil, 0o600)) // as a full disk leaves it
	st, err := OpenState(t.Context(), cfg, Options{Migrate: true, Reserve: 1 << 20})
	check(t, err)
	t.Cleanup(func() { check(t, st.Close()) })
	s, err := New(st)
	check(t, err)
	if holds, how := found(t, s, notice.DiskHeadroom); !holds || !strings.Contains(how, "the reserve is used") {
		t.Errorf("a full disk: %t %s", holds, how)
	}
	check(t, st.Store.TendReserve())
	free, _, err := st.Store.Free()
	check(t, err)
	if holds, how := found(t, s, notice.DiskHeadroom); holds != (free < headroom) {
		t.Errorf("with %d bytes free: %t %s", free, holds, how)
	}
}

// TestABroadTokenIsAnAlert: a client that gets tokens with more scopes than is usual is
// named to whoever looks after the deployment, once however often it asks; one with few
// is not.
func TestABroadTokenIsAnAlert(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, onPostgres bool) {
		n := newNewsroom(t, onPostgres)
		boss := n.person("boss", n.admins())
		r := newReceiver(t)
		n.hook(r.URL, "alert.*")
		n.run(n.notices.Run)
		n.begun()
		var scopes []string
		res := resource.Resource{ID: id.New(id.Resource), URI: "https://api.example.com", Name: "API", CreatedAt: n.now()}
		for i := range notice.BroadScopes + 1 {
			name := fmt.Sprintf("scope:%d", i)
			scopes = append(scopes, name)
			res.Scopes = append(res.Scopes, resource.Scope{Name: name, Description: "Something", Kind: resource.KindRead})
		}
		n.record(audit.ResourceCreated, nil, resource.Create{Resource: res})
		ask := n.machine(boss.ID, res.ID, scopes)
		ask(scopes[:notice.BroadScopes])
		ask(scopes)
		waitFor(t, func() bool { return len(r.count()) == 1 })
		ask(scopes)
		n.record(audit.RefreshReused, []audit.Part{{Person: boss.ID}}) // looked at after it
		waitFor(t, func() bool { return len(r.count()) == 2 })
		r.mu.Lock()
		first, second := r.events[0].Data, r.events[1].Data
		r.mu.Unlock()
		if first.Alert != notice.BroadToken || first.Severity != string(notice.Warning) || second.Alert != "refresh_reuse" {
			t.Errorf("%+v, %+v", first, second)
		}
		if m := n.relay.Wait(t, 1)[0]; m.To != boss.Email || m.Subject != "[id.example.com] Alert: An unusually broad token was issued" {
			t.Errorf("%s: %s", m.To, m.Subject)
		}
	})
}

// machine makes a service's client, and gives what asks for a token with scopes.
func (n *newsroom) machine(owner, res string, scopes []string) func(scopes []string) {
	t := n.t
	v := secret.New(secret.ClientSecret)
	h := v.Hash()
	svc := client.Service{ID: id.New(id.Service), Subject: id.Random(id.Service), Name: "robot", Owner: owner, Purpose: "test", ReviewBy: n.now().Add(time.Hour), CreatedAt: n.now()}
	c := client.Client{
		ID: id.New(id.Client), ClientID: "robot", Name: "Robot", Service: svc.ID, AuthMethod: client.AuthSecretBasic, SecretHash: &h,
		GrantTypes: []client.GrantType{client.ClientCredentials}, Scopes: scopes, Resources: []string{res}, CreatedAt: n.now(),
	}
	n.record(audit.ClientCreated, nil, client.Create{Client: c, NewService: &svc})
	serve, err := n.Handler()
	check(t, err)
	n.ready.Store(true)
	return func(scopes []string) {
		t.Helper()
		q := httptest.NewRequest(http.MethodPost, testIssuer+"/oauth/token", strings.NewReader("grant_type=client_credentials&scope="+strings.Join(scopes, "+")))
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		q.SetBasicAuth("robot", v.Reveal())
		w := httptest.NewRecorder()
		if serve.ServeHTTP(w, q); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}
