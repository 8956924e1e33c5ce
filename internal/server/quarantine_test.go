package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/web"
)

// routes are the paths that pages and programs ask for, with a method.
func routes(t *testing.T, s *Server) (list [][2]string) {
	t.Helper()
	add := func(pattern string) {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			method, path = http.MethodGet, pattern
		}
		path = strings.NewReplacer("{$}", "", "{id}", "x", "{", "", "}", "", "...", "").Replace(path)
		list = append(list, [2]string{method, path})
	}
	collect := func(pattern string, _ web.Handler) { add(pattern) }
	s.portal.Routes(collect)
	s.oauth.Pages(collect)
	s.oauth.API(collect)
	for _, p := range []string{
		"GET /v1/revocations/stream", "GET /v1/revocations/snapshot", "POST /v1/revocations/ack", "POST /access/v1/evaluation", "GET /v1/bundle",
		"GET /v1/people", "POST /v1/people", "GET /v1/audit", "GET /v1/openapi.json", "GET /log/1/checkpoint", "GET /nothing", "GET /v1/nothing",
	} {
		add(p)
	}
	if len(list) < 40 {
		t.Fatalf("only %d routes: %v", len(list), list)
	}
	return list
}

// TestQuarantine: what an outside memory says is compared with the database; a
// deployment that has gone back answers health, the operator and nobody else, on
// every route, and its log says so.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	s, log := newServer(t)
	h, err := s.Handler()
	check(t, err)
	s.ready.Store(true)
	admin := seedAdmin(t, s)
	_, err = s.seq.Step(t.Context())
	check(t, err)
	size, _, err := s.Store.Head(t.Context())
	check(t, err)
	for _, a := range []store.Anchor{{By: store.ByFeed, Epoch: 1, HW: size}, {By: store.ByWitness, Epoch: 0, HW: size + 9}} {
		if ahead, err := s.Remembered(t.Context(), a); err != nil || ahead || s.Quarantined() != "" {
			t.Fatalf("%+v counts as ahead: %v %v", a, ahead, err)
		}
	}
	for _, r := range routes(t, s) { // positive control
		if w := ask(h, r[0], testIssuer+r[1], ""); strings.Contains(w.Body.String(), "quarantine") {
			t.Errorf("%s %s speaks of a quarantine: %d %s", r[0], r[1], w.Code, w.Body)
		}
	}

	ahead, err := s.Remembered(t.Context(), store.Anchor{By: store.ByFeed, Epoch: 1, HW: size + 1})
	if check(t, err); !ahead || !strings.Contains(s.Quarantined(), "an enforcement point has seen") {
		t.Fatalf("ahead %v, quarantined %q", ahead, s.Quarantined())
	}
	for _, r := range routes(t, s) {
		w := ask(h, r[0], testIssuer+r[1], "")
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("Set-Cookie") != "" || r[0] != "HEAD" && !strings.Contains(w.Body.String(), "quarantine") {
			t.Errorf("%s %s: %d %v %s", r[0], r[1], w.Code, w.Header(), w.Body)
		}
		switch {
		case strings.HasPrefix(r[1], "/access/"):
			if !strings.HasPrefix(w.Body.String(), "quarantine: ") || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("AuthZEN is answered %v %s", w.Header(), w.Body)
			}
		case isAPI(r[1]):
			var body map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body["error"] != "quarantine" && body["code"] != "quarantine" {
				t.Errorf("%s %s: %v %s", r[0], r[1], err, w.Body)
			}
		}
	}
	if w := ask(s.Operations(), http.MethodGet, "/healthz", ""); w.Code != http.StatusOK {
		t.Errorf("health: %d", w.Code)
	}
	if w := ask(s.Operations(), http.MethodGet, "/readyz", ""); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "quarantine") {
		t.Errorf("readiness: %d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "gone back in time") {
		t.Error("the process log does not say it")
	}
	lines, _, err := s.Lines(t.Context(), store.Filter{Kinds: []audit.Kind{audit.QuarantineEntered}}, 5)
	if check(t, err); len(lines) != 1 {
		t.Errorf("%d records of it", len(lines))
	}

	// What a route does not stop, policy does: each kind of principal but two.
	for kind, want := range map[string]string{policy.KindPerson: policy.CodeQuarantine, policy.KindAnonymous: policy.CodeQuarantine, policy.KindSystem: "", policy.KindOperator: ""} {
		refs := act.Refs{Kind: kind}
		if kind == policy.KindPerson {
			refs.Actor = admin.ID
		}
		for _, a := range []policy.Action{policy.TokenIssue, policy.TokenRefresh, policy.SessionOpen, policy.InvitationAccept, policy.Authorize} {
			d, _, err := s.Do.Judge(t.Context(), act.Intent{Action: a, Refs: refs})
			if check(t, err); (d.Code == policy.CodeQuarantine) != (want != "") {
				t.Errorf("%s of %s: %s", a, kind, d.Code)
			}
		}
	}

	// It is there after a restart, and further memories only add to it.
	again, err := OpenState(t.Context(), s.Config, Options{})
	check(t, err)
	defer again.Close()
	if again.Quarantined() == "" {
		t.Error("a restart ended the quarantine")
	}
	_, err = again.Remembered(t.Context(), store.Anchor{By: store.ByWitness, Epoch: 1, HW: size + 70, Kids: []string{"k"}})
	check(t, err)
	seen, err := s.Store.Seen(t.Context())
	if check(t, err); seen.HW != size+70 || seen.By != store.ByWitness || len(seen.Kids) != 1 {
		t.Errorf("seen: %+v", seen)
	}
	if err := s.Quarantine(t.Context(), "x", store.Anchor{Epoch: 9}, act.Refs{Kind: policy.KindAnonymous}); !errors.Is(err, problem.Denied) {
		t.Errorf("anybody may begin a quarantine: %v", err)
	}
}

// TestUntilItIsOpenedAnew: another process ends the quarantine, in a new epoch. A server
// of the epoch before answers nobody, and does not say that it is ready, until it has
// been opened anew: it has the keys that were replaced.
func TestUntilItIsOpenedAnew(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	s.ready.Store(true)
	_, err := s.seq.Step(t.Context())
	check(t, err)
	check(t, s.Ready(t.Context())) // positive control
	_, err = s.Remembered(t.Context(), store.Anchor{By: store.ByFeed, Epoch: 1, HW: 1 << 20})
	check(t, err)
	other, err := OpenState(t.Context(), s.Config, Options{})
	check(t, err)
	defer other.Close()
	check(t, other.Leave(t.Context(), LeaveAs{}))
	for range 2 {
		if err := s.look(t.Context()); !errors.Is(err, ErrEpoch) {
			t.Fatalf("another epoch: %v", err)
		}
		if s.Quarantined() == "" || s.Ready(t.Context()) == nil {
			t.Errorf("a server of the epoch before serves: quarantined %q, ready %v", s.Quarantined(), s.Ready(t.Context()))
		}
	}
}

// TestMarkOfALaterEpoch: what an enforcement point gives back tells that the
// database has gone back in every epoch, not in the first alone.
func TestMarkOfALaterEpoch(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	step := func() {
		t.Helper()
		for more := true; more; {
			var err error
			more, err = s.seq.Step(t.Context())
			check(t, err)
		}
	}
	for range 20 {
		check(t, s.Seed(t.Context(), audit.RefusalsCounted))
	}
	step()
	s.Do.Checkpoint = nil
	check(t, s.OpenEpoch(t.Context(), nil, operator))
	again, err := New(s.State)
	check(t, err)
	s = again
	s.Do.Checkpoint = nil
	step()
	_, now, err := s.mark(t.Context())
	check(t, err)
	if err := s.seenMark(t.Context(), now); err != nil || s.Quarantined() != "" { // positive control
		t.Fatalf("a mark of now: %v %q", err, s.Quarantined())
	}
	size, _, err := s.Store.Head(t.Context())
	check(t, err)
	if s.Epoch() != 2 || s.tree.Base < 20 {
		t.Fatalf("epoch %d, after %d records", s.Epoch(), s.tree.Base)
	}
	ahead, err := s.Remembered(t.Context(), store.Anchor{By: store.ByFeed, Epoch: 2, HW: size + 1})
	if err != nil || !ahead || s.Quarantined() == "" {
		t.Errorf("one record more than there is: %v %v", ahead, err)
	}
}

// TestMarks: only a mark that this deployment made counts, whatever it says; one that
// is not ahead changes nothing, and one that is stops everything.
func TestMarks(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	other, _ := newServer(t)
	populate(t, s, 2)
	populate(t, other, 9)
	size, own, err := s.mark(t.Context())
	check(t, err)
	_, foreign, err := other.mark(t.Context())
	check(t, err)
	forged := "A" + own[1:]
	if own[0] == 'A' {
		forged = "B" + own[1:]
	}
	for name, mark := range map[string]string{"its own": own, "another deployment's": foreign, "forged": forged, "cut": own[:20], "none": "", "no base64": "%%%"} {
		if err := s.seenMark(t.Context(), mark); err != nil || s.Quarantined() != "" {
			t.Fatalf("%s: %v, quarantined %q", name, err, s.Quarantined())
		}
	}
	lost := s.epoch
	s.epoch = 7 // as a database that had come to another epoch
	_, ahead, err := s.mark(t.Context())
	check(t, err)
	s.epoch = lost
	if err := s.seenMark(t.Context(), ahead); problem.CodeOf(err) != policy.CodeQuarantine || s.Quarantined() == "" {
		t.Errorf("a mark of %d records in a later epoch: %v, %q", size, err, s.Quarantined())
	}
}
