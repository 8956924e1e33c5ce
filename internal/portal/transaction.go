package portal

import (
	"net/http"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
)

// sealedSignIn types the sealed state of a sign-in that is not finished.
const sealedSignIn = "signin"

// signInTime is how long a sign-in may take from its first proof to its last.
const signInTime = 10 * time.Minute

// signingIn is a sign-in that has not shown all its factors: no session, and
// nothing that one could do (security, invariant 8). It gathers proofs step by
// step and travels sealed for the browser that began it, so that nothing of it
// lives here; the act that opens the session spends it.
//
// A way to sign in adds its proof, what its use writes, and calls advance, which
// says what is next. Nothing else opens a session out of one.
type signingIn struct {
	ID       string            `json:"id"`
	Person   string            `json:"person"`
	Username string            `json:"username"`
	Proofs   []assurance.Proof `json:"proofs"`
	Password string            `json:"password,omitempty"` // the factor that was right
	Seed     []byte            `json:"seed,omitempty"`     // of an app that is being added on the way
	Tx       string            `json:"tx,omitempty"`
	Next     string            `json:"next,omitempty"`
	At       time.Time         `json:"at"` // of the first proof
}

func (s *Server) begin(p account.Person, tx, next string) signingIn {
	return signingIn{ID: id.Random("sgn_"), Person: p.ID, Username: p.Username, Tx: tx, Next: next, At: s.now()}
}

// with is the way in words, for the record.
func (t signingIn) with() string {
	words := map[assurance.Method]string{assurance.Passkey: "passkey", assurance.Password: "password", assurance.TOTP: "code"}
	out := ""
	for _, p := range t.Proofs {
		if w := words[p.Method]; w != "" && out != "" {
			out += " and " + w
		} else {
			out += w
		}
	}
	return out
}

var errSignInOver = problem.New(problem.Conflict, "signin_over", "This sign-in was finished or given up, or took longer than ten minutes.").
	WithHint("Start again on the sign-in page.")

func (s *Server) sealSignIn(w http.ResponseWriter, r *http.Request, t signingIn) (string, error) {
	b, err := s.Binding(w, r)
	if err != nil {
		return "", err
	}
	return s.Sealed.SealState(sealedSignIn, b, t)
}

// openSignIn reads the sign-in that this browser brings, and who it is for.
func (s *Server) openSignIn(w http.ResponseWriter, r *http.Request, sealed string) (t signingIn, p account.Person, err error) {
	b, err := s.Binding(w, r)
	if err != nil {
		return t, p, err
	}
	if err = s.Sealed.OpenState(sealedSignIn, b, sealed, &t); err != nil {
		if problem.Refusal(err) {
			err = errSignInOver.Because(err)
		}
		return signingIn{}, p, err
	}
	if s.now().Sub(t.At) > signInTime {
		return signingIn{}, p, errSignInOver
	}
	p, err = s.Store.Person(r.Context(), t.Person)
	if problem.Refusal(err) {
		err = errSignInOver.Because(err)
	}
	return t, p, err
}

// advance goes on with a sign-in that has proved something more: into a session
// if that was all, else to the page for what is missing. uses are what the last
// step writes.
func (s *Server) advance(w http.ResponseWriter, r *http.Request, t signingIn, uses ...act.Change) error {
	if assurance.Evaluate(t.Person, t.Proofs, s.now()).Best().Rung >= assurance.Multi {
		return s.finishSignIn(w, r, t, uses)
	}
	sealed, err := s.sealSignIn(w, r, t)
	if err != nil {
		return err
	}
	all, err := s.Store.FactorsOf(r.Context(), t.Person)
	if err != nil {
		return err
	}
	has := func(k factor.Kind) bool {
		return slices.ContainsFunc(all, func(f factor.Factor) bool { return f.Kind == k })
	}
	switch {
	case has(factor.KindTOTP):
		return seeOther(w, r, withQuery("/signin/code", "st", sealed))
	case !has(factor.KindPasskey): // they came from another system with a password and nothing else
		return seeOther(w, r, withQuery("/signin/app", "st", sealed))
	}
	return s.show(w, r, nil, "", view.Done{
		Headline: "Use your passkey", Text: "Your password is right, but it needs a second factor, and you have no authenticator app. Your passkey does by itself.",
		Next: &view.Link{Text: "Sign in with a passkey", URL: "/signin?" + flowQuery(t.Tx, t.Next)},
	})
}

// finishSignIn opens the session: the uses of the factors, the session and its
// record are one act, which spends the sign-in.
func (s *Server) finishSignIn(w http.ResponseWriter, r *http.Request, t signingIn, uses []act.Change) error {
	open, finish, err := s.newSession(r, t.Person, t.Proofs)
	if err != nil {
		return err
	}
	refs := act.Refs{Kind: policy.KindPerson, Actor: t.Person, Credential: open.Credentials}
	if open.NewDevice == nil {
		refs.Under = []string{open.Device}
	}
	if t.Password != "" {
		uses = append(uses, factor.Used{ID: t.Password, Kind: factor.KindPassword, At: s.now()})
	}
	forgive, err := s.forgiven(r, t)
	if err != nil {
		return err
	}
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.SessionOpen, Kind: audit.SessionOpened, Refs: refs, From: arrival(r, open), Proofs: t.Proofs,
		Spend: []once.Spend{{Purpose: once.SignIn, Key: once.KeyOf(once.SignIn, "state", t.ID), Mark: true, Until: t.At.Add(signInTime + time.Minute)}},
		Changes: func(_ *act.Facts, d policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: slices.Concat([]act.Change{open.Within(d.MaxGrant)}, uses, forgive), Leaf: open.ID,
				Parts: []audit.Part{{Person: t.Person, Body: map[string]any{"session": open.ID, "device": open.Device, "new_device": open.NewDevice != nil, "with": t.with(), "network": open.Network}}},
			}, nil
		},
	})
	if used, ok := act.Spent(err); ok {
		return errSignInOver.Because(used)
	}
	if err != nil {
		return spentAsExpired(err)
	}
	finish(w)
	return seeOther(w, r, after(t.Tx, t.Next))
}

// flowQuery is what the sign-in page carries along, as a query.
func flowQuery(tx, next string) string {
	f := flow(tx, next)[0]
	return withQuery("", f.Name, f.Value)[1:]
}
