package trust

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/countersign-dev/countersign/test/pgtest"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// TestRacesOnTwoNodes presents the same code, client assertion or refresh token
// up to 200 times at once to two servers of one deployment, of which one may be
// killed meanwhile. What all clients were told must be what one server could have
// told them, one after the other: a single-use value is accepted once, and a
// refresh token has one successor.
func TestRacesOnTwoNodes(t *testing.T) {
	control(t)
	r := newRace(t, pgtest.Start(t))
	n := rounds(60)
	if !full() {
		n = 6
	}
	for i := range n {
		width := widths[i%len(widths)]
		kill := i%3 == 2
		r.round(width, kill)
		if t.Failed() {
			t.Log(tail(r.nodes[0].run.Said()))
			break
		}
	}
	report(t, "one-time values raced on two nodes, PostgreSQL", "%d races 2 to 200 wide, %d of them with a node killed: %d presentations of %d codes, assertions and refresh tokens, %d accepted, %d refused, %d replays of an answer, %d never answered; 0 histories that are not linearisable (porcupine); one that is made wrong is found",
		r.races, r.kills, r.presented, r.values, r.accepted, r.refused, r.replayed, r.unknown)
	if r.unknown == 0 || r.kills == 0 {
		t.Errorf("of %d kills nobody noticed anything", r.kills)
	}
}

// widths are how many present a value at once.
var widths = []int{2, 8, 200, 3, 50, 100}

// race is a deployment of two nodes.
type race struct {
	*world
	nodes                                [2]*world
	clients                              [2]*http.Client
	browser                              *actor.Browser
	began                                time.Time
	heard                                map[string]bool // answers
	races, kills, presented, values      int
	accepted, refused, replayed, unknown int
}

func newRace(t *testing.T, dsn string) *race {
	w := newWorld(t, t.TempDir(), dsn, nil)
	r := &race{world: w, began: time.Now(), heard: map[string]bool{}, nodes: [2]*world{w, w.replica()}}
	w.start()
	r.browser = w.person() // before the other's start makes a link of its own
	r.nodes[1].start()
	for i, n := range r.nodes {
		r.clients[i] = n.reach()
	}
	return r
}

// replica is a second server of the same deployment, with a folder and sockets
// of its own.
func (w *world) replica() *world {
	w.t.Helper()
	other := *w
	other.dir, other.run = w.t.TempDir(), nil
	kek, err := os.ReadFile(filepath.Join(w.dir, "kek.json"))
	check(w.t, err)
	check(w.t, os.WriteFile(filepath.Join(other.dir, "kek.json"), kek, 0o600))
	other.address = fmt.Sprintf("127.0.0.1:%d", freePort(w.t))
	ops := fmt.Sprintf("127.0.0.1:%d", freePort(w.t))
	other.ops = "http://" + ops
	other.text = strings.NewReplacer(w.dir, other.dir, w.address, other.address, strings.TrimPrefix(w.ops, "http://"), ops).Replace(w.text)
	other.file = filepath.Join(other.dir, "countersignd.yaml")
	check(w.t, os.WriteFile(other.file, []byte(other.text), 0o600))
	w.t.Cleanup(other.kill)
	return &other
}

// reach is an HTTP client that reaches this node under the issuer's name.
func (w *world) reach() *http.Client {
	var d net.Dialer
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: 256,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, w.address)
		},
	}}
}

// via is a client that talks to one node.
func (r *race) via(c *actor.Client, node int) *actor.Client {
	there := *c
	there.HTTP = r.clients[node]
	return &there
}

// round races one value of each kind.
func (r *race) round(width int, kill bool) {
	r.t.Helper()
	code := r.app.NewRequest(theAPI, theScope)
	back, err := r.browser.Authorize(code.Query)
	check(r.t, err)
	r.present(width, kill, once, func(c int) (string, string, error) {
		tokens, err := r.via(r.app, c%2).Redeem(code, back.Get("code"))
		return "code", tokens.Access, err
	})
	a, err := r.keyed.Assertion()
	check(r.t, err)
	r.present(width, kill, once, func(c int) (string, string, error) {
		tokens, err := r.via(r.keyed, c%2).Credentials(a)
		return "assertion", tokens.Access, err
	})

	code = r.app.NewRequest(theAPI, theScope)
	back, err = r.browser.Authorize(code.Query)
	check(r.t, err)
	tokens, err := r.app.Redeem(code, back.Get("code"))
	check(r.t, err)
	family := tokens.Refresh
	r.heard[family] = true
	history := r.present(width, kill, nil, func(c int) (string, string, error) {
		tokens, err := r.via(r.app, c%2).Refresh(family)
		return family, tokens.Refresh, err
	})
	// Then the successor, while somebody comes with the first token once more: that
	// gets what is current, before the successor's use or after it. So many different
	// answers to so many would be too many orders to try.
	var next string
	for _, op := range history {
		if out := op.Output.(answer); out.fate == accepted {
			next = out.token
		}
	}
	if next == "" {
		return // nobody was answered
	}
	more := r.present(min(width, 16), false, nil, func(c int) (string, string, error) {
		token := next
		if c%5 == 4 {
			token = family
		}
		tokens, err := r.via(r.app, c%2).Refresh(token)
		return token, tokens.Refresh, err
	})
	r.judge(lineage(family), append(history, more...))
}

// reduced leaves out what changes nothing about whether a history is
// linearisable, so that 200 at once can be checked. A request is implied by
// another one, within its time, that said and heard the same: had they been one
// after the other, the answers would have been these. (Two that were accepted
// for a single-use value were given different tokens: neither implies the other.)
// Of those that nobody answered two matter for each value, one that uses it and
// one that comes too late, and those that began first can stand for the others.
func reduced(history []porcupine.Operation) (kept []porcupine.Operation) {
	history = slices.Clone(history)
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	unanswered := map[any]int{}
	for i, op := range history {
		if op.Output.(answer).fate == unknown {
			if unanswered[op.Input]++; unanswered[op.Input] <= 2 {
				kept = append(kept, op)
			}
			continue
		}
		implied := slices.ContainsFunc(history[:i], func(other porcupine.Operation) bool { return within(other, op) }) ||
			slices.ContainsFunc(history[i+1:], func(other porcupine.Operation) bool { return within(other, op) && !within(op, other) })
		if !implied {
			kept = append(kept, op)
		}
	}
	return kept
}

// within reports whether two said and heard the same, the first within the time
// of the second.
func within(a, b porcupine.Operation) bool {
	return a.Input == b.Input && a.Output == b.Output && a.Call >= b.Call && a.Return <= b.Return
}

// Fates of a request.
const (
	accepted = iota
	refused
	unknown // nobody heard
)

type answer struct {
	fate  int
	token string
}

// present lets width clients do something at once and gives their history. With a
// model it is judged.
func (r *race) present(width int, kill bool, model func() porcupine.Model, do func(client int) (input, output string, err error)) []porcupine.Operation {
	r.t.Helper()
	history := make([]porcupine.Operation, width)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for c := range width {
		wg.Go(func() {
			<-start
			call := time.Since(r.began)
			in, out, err := do(c)
			for tries := 0; tries < 10 && actor.Refused(err, "temporarily_unavailable"); tries++ { // the queue was longer than an act may take; nothing was changed
				in, out, err = do(c)
			}
			op := porcupine.Operation{ClientId: c, Input: in, Call: int64(call), Return: int64(time.Since(r.began)), Output: answer{accepted, out}}
			var said *actor.Refusal
			switch {
			case err == nil:
			case errors.As(err, &said) && said.Status < 500:
				op.Output = answer{refused, said.Code}
			case errors.As(err, &said):
				op.Output, op.Return = answer{unknown, fmt.Sprint(said)}, 1<<62
			default:
				op.Output, op.Return = answer{fate: unknown}, 1<<62
			}
			history[c] = op
		})
	}
	close(start)
	if kill {
		time.Sleep(time.Duration(rand.IntN(2+width/2)) * time.Millisecond)
		r.nodes[1].kill()
		r.kills++
	}
	wg.Wait()
	if kill {
		r.nodes[1].start()
	}
	r.races++
	r.values++
	r.presented += width
	r.tally(history)
	if model != nil {
		r.judge(model(), history)
	}
	return history
}

func (r *race) tally(history []porcupine.Operation) {
	for _, op := range history {
		switch out := op.Output.(answer); {
		case out.fate == unknown:
			r.unknown++
			if out.token != "" {
				r.t.Errorf("a server that was not killed said %s", out.token)
			}
		case out.fate == refused:
			r.refused++
		case r.heard[out.token]:
			r.replayed++
		default:
			r.heard[out.token] = true
			r.accepted++
		}
	}
}

func (r *race) judge(model porcupine.Model, history []porcupine.Operation) {
	r.t.Helper()
	if got := porcupine.CheckOperationsTimeout(model, reduced(history), time.Minute); got != porcupine.Ok {
		for _, op := range reduced(history) {
			r.t.Logf("%12d %12d %.12v %+v", op.Call, op.Return, op.Input, op.Output)
		}
		r.t.Errorf("a history that is not linearisable: %s", got)
	}
}

// once is a value that is accepted once.
func once() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return false },
		Step: func(state, _, output any) (bool, any) {
			spent := state.(bool)
			switch output.(answer).fate {
			case accepted:
				return !spent, true
			case refused:
				return spent, true
			}
			return true, true
		},
	}
}

// generations is what a family of refresh tokens knows.
type generations struct {
	old, current string // old: those before, one a line
}

func (g generations) had(token string) bool {
	return slices.Contains(strings.Split(g.old, "\n"), token)
}

// lineage is a family that begins with a token: the current one rotates, and each
// one before it, in the seconds that a race takes, gets the current one (decision
// 0007).
func lineage(first string) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return generations{current: first} },
		Step: func(state, input, output any) (bool, any) {
			s, token, out := state.(generations), input.(string), output.(answer)
			switch {
			case token == s.current:
				next := generations{old: s.old + "\n" + token, current: out.token} // "" if nobody heard
				return out.fate != refused && !s.had(out.token) && out.token != token, next
			case s.had(token) && out.fate == unknown:
				return true, s
			case s.had(token):
				ok := out.fate == accepted && (s.current == "" || s.current == out.token)
				s.current = out.token
				return ok, s
			}
			return out.fate != accepted, s // it was never given
		},
	}
}

// control makes histories that no server may give: the models must find them.
func control(t *testing.T) {
	t.Helper()
	op := func(call, ret int64, in string, fate int, out string) porcupine.Operation {
		return porcupine.Operation{Input: in, Call: call, Return: ret, Output: answer{fate, out}}
	}
	for _, c := range []struct {
		what    string
		model   porcupine.Model
		history []porcupine.Operation
		want    bool
	}{
		{"once", once(), []porcupine.Operation{op(0, 5, "c", accepted, "t"), op(1, 4, "c", refused, "")}, true},
		{"answered by nobody, then accepted", once(), []porcupine.Operation{op(0, 1<<62, "c", unknown, ""), op(9, 10, "c", accepted, "t")}, true},
		{"twice", once(), []porcupine.Operation{op(0, 5, "c", accepted, "t"), op(1, 4, "c", accepted, "u")}, false},
		{"refused before it was accepted", once(), []porcupine.Operation{op(0, 1, "c", refused, ""), op(2, 4, "c", accepted, "t")}, false},
		{"a rotation and its replay", lineage("a"), []porcupine.Operation{op(0, 5, "a", accepted, "b"), op(1, 6, "a", accepted, "b")}, true},
		{"two successors", lineage("a"), []porcupine.Operation{op(0, 5, "a", accepted, "b"), op(1, 6, "a", accepted, "c")}, false},
		{"an honest client refused", lineage("a"), []porcupine.Operation{op(0, 5, "a", refused, "")}, false},
		{"an older one gets what is current", lineage("a"), []porcupine.Operation{op(0, 1, "a", accepted, "b"), op(2, 3, "b", accepted, "c"), op(4, 5, "a", accepted, "c")}, true},
		{"an older one gets what is not", lineage("a"), []porcupine.Operation{op(0, 1, "a", accepted, "b"), op(2, 3, "b", accepted, "c"), op(4, 5, "a", accepted, "b")}, false},
		{"an older one rotates", lineage("a"), []porcupine.Operation{op(0, 1, "a", accepted, "b"), op(2, 3, "b", accepted, "c"), op(4, 5, "a", accepted, "d")}, false},
		{"an older one refused at once", lineage("a"), []porcupine.Operation{op(0, 1, "a", accepted, "b"), op(2, 3, "b", accepted, "c"), op(4, 5, "a", refused, "")}, false},
		{"an old one given again", lineage("a"), []porcupine.Operation{op(0, 1, "a", accepted, "b"), op(2, 3, "b", accepted, "a")}, false},
		{"one that was never given", lineage("a"), []porcupine.Operation{op(0, 1, "x", accepted, "b")}, false},
	} {
		if got := porcupine.CheckOperations(c.model, reduced(c.history)); got != c.want {
			t.Errorf("%s: linearisable %v, want %v", c.what, got, c.want)
		}
	}
}
