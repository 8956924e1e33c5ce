package portal

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

// guess is somebody's try at a factor: it is paid for and recorded before it is
// looked at, the same whether or not there is anybody to guess at.
type guess struct {
	kind   factor.Kind
	whose  string // a folded user name, or a person's id
	person string // "" if nobody has the name
}

func passwordGuess(username, person string) guess {
	return guess{factor.KindPassword, strings.ToLower(username), person}
}

func codeGuess(person string) guess { return guess{factor.KindTOTP, person, person} }

// with is the kind in words for a record.
func (g guess) with() string {
	if g.kind == factor.KindTOTP {
		return "a code"
	}
	return "a password"
}

// way is the kind as a way to fail.
func (g guess) way() act.Way {
	if g.kind == factor.KindTOTP {
		return act.WayCode
	}
	return act.WayPassword
}

// wrong remembers a wrong proof of somebody, "" for nobody.
func (s *Server) wrong(r *http.Request, way act.Way, whose string) {
	s.Do.Missed(act.Wrong{Way: way, Whose: whose}, grant.NetworkOf(s.ClientAddr(r)), s.now())
}

// budget is out of which the guess of this browser is paid.
func (s *Server) budget(r *http.Request, g guess) (factor.Budget, error) {
	device, err := s.knownDevice(r, g.person)
	return factor.BudgetOf(g.kind, g.whose, device, g.person != ""), err
}

// knownDevice is the device of this browser if the person has signed in on it
// before, else "".
func (s *Server) knownDevice(r *http.Request, person string) (string, error) {
	dev := s.cookie(r, cookieDevice, secret.Device)
	if dev.IsZero() {
		return "", nil
	}
	d, err := s.Store.DeviceBySecret(r.Context(), dev.Hash())
	if problem.Refusal(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	known, err := s.Store.KnownDevice(r.Context(), person, d.ID)
	if err != nil || !known {
		return "", err
	}
	return d.ID, nil
}

// pay takes the guess out of its budget, and out of the network's.
func (s *Server) pay(r *http.Request, g guess) error {
	b, err := s.budget(r, g)
	if err != nil {
		return err
	}
	budgets := []factor.Budget{b}
	if n := grant.NetworkOf(s.ClientAddr(r)); n != "" {
		budgets = append(budgets, factor.NetworkBudget(n))
	}
	return s.note(r, g, audit.FactorTried, factor.Take{Budgets: budgets})
}

// note records what became of a guess.
func (s *Server) note(r *http.Request, g guess, kind audit.Kind, changes ...act.Change) error {
	var parts []audit.Part
	if g.person != "" {
		parts = []audit.Part{{Person: g.person, Body: map[string]any{"with": g.with(), "network": grant.NetworkOf(s.ClientAddr(r))}}}
	}
	_, err := s.Do.Do(r.Context(), act.Intent{
		Action: policy.FactorTry, Kind: kind, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: changes, Parts: parts}, nil
		},
	})
	return err
}

// missed records that the guess was wrong, and gives how many are left; with the
// last one what follows is recorded too.
func (s *Server) missed(r *http.Request, g guess) (left int, err error) {
	b, err := s.budget(r, g)
	if err != nil {
		return 0, err
	}
	n, row, err := s.Store.Guessed(r.Context(), b.Bucket)
	if err != nil {
		return 0, err
	}
	kind := audit.FactorMissed
	switch {
	case row >= b.Row:
		kind = audit.FactorOff
	case n >= b.Most:
		kind = audit.FactorLocked
	}
	s.wrong(r, g.way(), g.person)
	return max(b.Most-n, 0), s.note(r, g, kind)
}

// forgiven gives back what a right password with a code took: the budget of this
// browser and the two guesses of its network; and the row of wrong ones from
// elsewhere ends, because it breaks it.
func (s *Server) forgiven(r *http.Request, t signingIn) ([]act.Change, error) {
	device, err := s.knownDevice(r, t.Person)
	if err != nil {
		return nil, err
	}
	var out []act.Change
	for _, g := range []guess{passwordGuess(t.Username, t.Person), codeGuess(t.Person)} {
		f := factor.Forgive{Bucket: factor.BudgetOf(g.kind, g.whose, device, true).Bucket}
		if device != "" {
			f.Elsewhere = []factor.Bucket{factor.BudgetOf(g.kind, g.whose, "", true).Bucket}
		}
		out = append(out, f)
	}
	if n := grant.NetworkOf(s.ClientAddr(r)); n != "" {
		out = append(out, factor.Refund{Bucket: factor.NetworkBudget(n).Bucket, Paid: 2})
	}
	return out, nil
}

// pardoned breaks the rows of wrong guesses from elsewhere after a passkey was
// used.
func pardoned(username, person string) (out []act.Change) {
	for _, g := range []guess{passwordGuess(username, person), codeGuess(person)} {
		out = append(out, factor.Forgive{Elsewhere: []factor.Bucket{factor.BudgetOf(g.kind, g.whose, "", true).Bucket}})
	}
	return out
}

// throttled is for how long a guess is not looked at: until then, or off where no
// time helps. ok is false for any other error.
func (s *Server) throttled(err error) (until time.Time, off, ok bool) {
	p := problem.From(err)
	if p == nil || !errors.Is(err, problem.Throttled) {
		return time.Time{}, false, false
	}
	if p.RetryAfter == 0 {
		return time.Time{}, true, true
	}
	return s.now().Add(p.RetryAfter), false, true
}

// answerFloor is how long the answer to a password takes at least, whoever's it
// is: hashes of other systems take another time than ours, and nobody's take none.
const answerFloor = 250 * time.Millisecond

// evenly waits until an answer that began then is due.
func (s *Server) evenly(r *http.Request, began time.Time) {
	t := time.NewTimer(time.Until(began.Add(answerFloor)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

// wrongAnswer reports whether an error is one that a person can answer with
// another try.
func wrongAnswer(err error) bool {
	return slices.Contains([]string{"code_wrong", "code_used"}, problem.CodeOf(err))
}
