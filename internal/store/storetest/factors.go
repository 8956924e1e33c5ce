package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
)

func secretOf(person string, k factor.Kind) factor.Secret {
	return factor.Secret{
		Factor: factor.Factor{ID: id.New(id.Credential), Person: person, Kind: k, Name: "My " + k.Word(), CreatedAt: start},
		Sealed: random(60),
	}
}

func (r *rig) secret(person string, k factor.Kind) factor.Secret {
	r.t.Helper()
	v := secretOf(person, k)
	r.do(factor.Add{Secret: v})
	return v
}

func ids(all []factor.Factor) (out []string) {
	for _, f := range all {
		out = append(out, f.ID)
	}
	return out
}

func testSecretFactors(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p, other := r.person("dana"), r.person("sam")
	before := node(t, r, p.ID).Version
	pw, app := r.secret(p.ID, factor.KindPassword), r.secret(p.ID, factor.KindTOTP)
	if node(t, r, p.ID).Version == before {
		t.Error("a new factor did not move the person's version")
	}
	same(t, must(r.s.SecretsOf(r.ctx, p.ID, factor.KindPassword))(t), []factor.Secret{pw})
	key := r.passkey(p.ID)
	all := must(r.s.FactorsOf(r.ctx, p.ID))(t)
	if got := ids(all); !slices.Equal(got, []string{pw.ID, app.ID, key.ID}) {
		t.Errorf("factors %q", got)
	}
	same(t, all[1], app.Factor)
	same(t, all[2], factor.Factor{ID: key.ID, Person: p.ID, Kind: factor.KindPasskey, Name: "Key", CreatedAt: start})
	if n := must(r.s.Person(r.ctx, p.ID))(t).Factors; n != 3 {
		t.Errorf("%d factors counted", n)
	}
	if got := must(r.s.FactorsOf(r.ctx, other.ID))(t); got != nil {
		t.Errorf("another's: %+v", got)
	}

	refused(t, r.try(factor.Add{Secret: secretOf(p.ID, factor.KindPassword)}), problem.Conflict, "factors_full")
	r.do(factor.Rename{ID: app.ID, Name: "Phone"})
	refused(t, r.try(factor.Rename{ID: id.New(id.Credential), Name: "x"}), problem.NotFound, "factor_not_found")

	used := start.Add(time.Minute)
	r.do(factor.Used{ID: app.ID, Kind: factor.KindTOTP, Step: 100, At: used})
	refused(t, r.try(factor.Used{ID: app.ID, Kind: factor.KindTOTP, Step: 100, At: used}), problem.Conflict, "code_used")
	refused(t, r.try(factor.Used{ID: app.ID, Kind: factor.KindTOTP, Step: 99, At: used}), problem.Conflict, "code_used")
	r.do(factor.Used{ID: app.ID, Kind: factor.KindTOTP, Step: 101, At: used})
	r.do(factor.Used{ID: pw.ID, Kind: factor.KindPassword, Sealed: []byte("stronger"), At: used})
	app.Name, app.Step, app.UsedAt, pw.Sealed, pw.UsedAt = "Phone", 101, used, []byte("stronger"), used
	same(t, must(r.s.SecretsOf(r.ctx, p.ID, factor.KindTOTP))(t), []factor.Secret{app})
	same(t, must(r.s.SecretsOf(r.ctx, p.ID, factor.KindPassword))(t), []factor.Secret{pw})

	second := secretOf(p.ID, factor.KindPassword)
	refused(t, r.try(factor.Replace{Old: pw.ID, New: secretOf(other.ID, factor.KindPassword)}), problem.NotFound, "factor_not_found")
	refused(t, r.try(factor.Replace{Old: app.ID, New: second}), problem.NotFound, "factor_not_found")
	r.do(factor.Replace{Old: pw.ID, New: second})
	same(t, must(r.s.SecretsOf(r.ctx, p.ID, factor.KindPassword))(t), []factor.Secret{second})
	if n := node(t, r, pw.ID); n.Live() || n.Why != "replaced" {
		t.Errorf("the replaced password: %+v", n)
	}
	settle(t, r)
	if revs := must(r.s.RevocationsSince(r.ctx, 0))(t); len(revs) != 1 || revs[0].Node != pw.ID {
		t.Errorf("revocations: %+v", revs)
	}
}

func testWhatStays(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p := r.person("dana")
	pw, app, key := r.secret(p.ID, factor.KindPassword), r.secret(p.ID, factor.KindTOTP), r.passkey(p.ID)
	refused(t, r.try(factor.Remove{ID: key.ID, Person: p.ID}), problem.Conflict, "last_passkey")
	r.do(factor.Remove{ID: key.ID, Person: p.ID, Weaken: true})
	for _, f := range []factor.Secret{pw, app} {
		refused(t, r.try(factor.Remove{ID: f.ID, Person: p.ID, Weaken: true}), problem.Conflict, "last_factor")
	}
	spare := r.secret(p.ID, factor.KindTOTP)
	r.do(factor.Remove{ID: app.ID, Person: p.ID})
	refused(t, r.try(factor.Remove{ID: spare.ID, Person: p.ID}), problem.Conflict, "last_factor")
	key = r.passkey(p.ID)
	r.do(factor.Remove{ID: pw.ID, Person: p.ID})
	r.do(factor.Remove{ID: spare.ID, Person: p.ID})
	refused(t, r.try(factor.Remove{ID: key.ID, Person: p.ID, Weaken: true}), problem.Conflict, "last_factor")
}

func testKindsOff(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	p := r.person("dana")
	pw, app := r.secret(p.ID, factor.KindPassword), r.secret(p.ID, factor.KindTOTP)
	v, _ := r.session(p.ID, pw.ID, app.ID)
	typed := []assurance.Proof{
		{Method: assurance.Password, Subject: p.ID, Credential: pw.ID, At: start}, {Method: assurance.TOTP, Subject: p.ID, Credential: app.ID, At: start},
	}
	r.do(session.Prove{ID: v.ID, Proofs: typed})
	load := func() act.Facts {
		return must(r.s.Load(r.ctx, policy.FactorRename, act.Refs{Kind: policy.KindPerson, Actor: p.ID, Session: v.ID, Owner: p.ID}))(t)
	}
	if f := load(); len(f.Proofs) != 2 || !f.Input.Context.NoPasskey {
		t.Errorf("facts: %+v", f)
	}
	r.do(factor.Allow{Kind: factor.KindPassword, On: false})
	if on := must(r.s.Allowed(r.ctx))(t); on.Typed() || !on[factor.KindPasskey] || !on[factor.KindTOTP] {
		t.Errorf("allowed: %v", on)
	}
	refused(t, r.try(factor.Used{ID: pw.ID, Kind: factor.KindPassword, At: start}), problem.Denied, "factor_kind_off")
	refused(t, r.try(factor.Add{Secret: secretOf(r.person("sam").ID, factor.KindPassword)}), problem.Denied, "factor_kind_off")
	if f := load(); len(f.Proofs) != 0 {
		t.Errorf("proofs of a kind that is off: %+v", f.Proofs)
	}
	r.do(factor.Allow{Kind: factor.KindPassword, On: true})
	if f := load(); len(f.Proofs) != 2 {
		t.Errorf("proofs: %+v", f.Proofs)
	}
	r.passkey(p.ID)
	if f := load(); f.Input.Context.NoPasskey {
		t.Error("a passkey is not seen")
	}
}

func testGuesses(t *testing.T, db Database) {
	r := open(t, db)
	defer r.s.Close()
	at := time.Now().UTC().Truncate(time.Microsecond)
	guess := func(b ...factor.Budget) error {
		w := r.write(audit.FactorTried, "", nil, factor.Take{Budgets: b})
		w.At = at
		return r.s.Commit(r.ctx, w)
	}
	five := func(b factor.Budget) {
		t.Helper()
		for range factor.Guesses {
			if err := guess(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	home, away := factor.BudgetOf(factor.KindTOTP, "cred_1", "dev_1", true), factor.BudgetOf(factor.KindTOTP, "cred_1", "", true)
	five(away)
	err := guess(home, away)
	refused(t, err, problem.Throttled, "too_many_attempts")
	if wait := problem.From(err).RetryAfter; wait <= 13*time.Minute || wait > factor.GuessWindow {
		t.Errorf("wait %v", wait)
	}
	five(home) // the refused one took nothing
	refused(t, guess(home), problem.Throttled, "too_many_attempts")
	r.do(factor.Forgive{Bucket: home.Bucket, Elsewhere: []factor.Bucket{away.Bucket}})
	five(home)
	refused(t, guess(away), problem.Throttled, "too_many_attempts") // its window goes on

	office := factor.NetworkBudget("198.51.100.0/24")
	for range 40 {
		if err := guess(office, factor.BudgetOf(factor.KindTOTP, id.New(id.Person), "", true)); err != nil {
			t.Fatal(err)
		}
	}
	r.do(factor.Refund{Bucket: office.Bucket, Paid: 30})
	if n, row := guessed(t, r, office.Bucket); n != 10 || row != 40 {
		t.Errorf("after a refund: %d, %d", n, row)
	}
	r.do(factor.Refund{Bucket: office.Bucket, Paid: 30}) // never below nothing
	if n, _ := guessed(t, r, office.Bucket); n != 0 {
		t.Errorf("after too large a refund: %d", n)
	}

	for range factor.GuessesInRow / factor.Guesses { // but its row had ended: a hundred more
		at = at.Add(factor.GuessWindow)
		five(away)
	}
	at = at.Add(30 * 24 * time.Hour)
	err = guess(away)
	refused(t, err, problem.Throttled, "too_many_attempts")
	if wait := problem.From(err).RetryAfter; wait != 0 {
		t.Errorf("after a hundred in a row, waiting %v helps", wait)
	}
	if err := guess(home); err != nil {
		t.Errorf("guesses from elsewhere lock the device out: %v", err)
	}
	r.do(factor.Forgive{Bucket: home.Bucket, Elsewhere: []factor.Bucket{away.Bucket}})
	if err := guess(away); err != nil {
		t.Errorf("after a right one from another source: %v", err)
	}
}

func guessed(t *testing.T, r *rig, b factor.Bucket) (window, row int) {
	t.Helper()
	window, row, err := r.s.Guessed(r.ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	return window, row
}

// A thousand guesses at once are five; a step is won once; of the last two ways
// to sign in one stays; a person gets no more factors than the most.
func testFactorRaces(t *testing.T, db Database) {
	rs := nodes(t, db)
	r := rs[0]
	p := r.person("dana")
	pw, app := r.secret(p.ID, factor.KindPassword), r.secret(p.ID, factor.KindTOTP)
	b := factor.BudgetOf(factor.KindTOTP, app.ID, "", true)
	const n = 1000
	writes := make([]act.Write, n)
	for i := range writes {
		writes[i] = rs[i%len(rs)].write(audit.FactorTried, "", nil, factor.Take{Budgets: []factor.Budget{b}})
	}
	paid := 0
	for _, err := range race(n, func(i int) error { return settled(rs[i%len(rs)], writes[i]) }) {
		switch {
		case err == nil:
			paid++
		case problem.CodeOf(err) != "too_many_attempts":
			t.Fatalf("a guess: %v", err)
		}
	}
	if paid != factor.Guesses {
		t.Errorf("%d guesses of %d were looked at", paid, n)
	}

	used := func(err error) bool { return problem.CodeOf(err) == "code_used" }
	oneWinner(t, race(64, func(i int) error {
		rr := rs[i%len(rs)]
		return settled(rr, rr.write(audit.FactorUsed, "", nil, factor.Used{ID: app.ID, Kind: factor.KindTOTP, Step: 7, At: r.at}))
	}), used)

	key := r.passkey(p.ID)
	errs := race(2, func(i int) error { // the passkey, or the password that makes the other way
		rr := rs[i%len(rs)]
		return settled(rr, rr.write(audit.FactorRemoved, "", nil, factor.Remove{ID: []string{key.ID, pw.ID}[i], Person: p.ID, Weaken: true}))
	})
	if lost := slices.DeleteFunc(errs, func(err error) bool { return err == nil }); len(lost) != 1 || problem.CodeOf(lost[0]) != "last_factor" {
		t.Errorf("removing both ways at once: %v", errs)
	}

	q := r.person("sam")
	full := func(err error) bool { return problem.CodeOf(err) == "factors_full" }
	oneWinner(t, race(16, func(i int) error {
		rr := rs[i%len(rs)]
		return settled(rr, rr.write(audit.FactorEnrolled, "", nil, factor.Add{Secret: secretOf(q.ID, factor.KindPassword)}))
	}), full)
}

// settled commits until nothing that was decided on moves.
func settled(r *rig, w act.Write) error {
	for {
		if err := r.s.Commit(context.Background(), w); !errors.Is(err, act.ErrStale) {
			return err
		}
	}
}
