package portal

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/web"
)

// signing is the act of signing policies that are to come into force.
func signing(v *visitor) act.Intent { return asAdmin(v, policy.PolicyPublish, audit.PolicySigned) }

// viewOf names the text that a page shows of what is signed.
func viewOf(text string) string {
	h := factor.ViewHash(text)
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// asks is what v is asked to sign of a publication, in this browser.
func (s *Server) asks(w http.ResponseWriter, r *http.Request, v *visitor, x *shown) (factor.Signing, error) {
	browser, err := s.bindTo(w, r, "sign", v.ses.ID)
	return factor.Signing{
		Request: x.ID, Person: v.person.ID, Decision: ruleset.SigningDecision, Action: x.Digest(s.Issuer), View: factor.ViewHash(x.text), Browser: browser,
	}, err
}

var (
	errShownOld = problem.New(problem.Conflict, "signing_stale", "What this page shows has changed since.").
			WithHint("Load the page again, read it, and sign what it shows then.")
	errMoved = problem.New(problem.Conflict, "policy_moved", "Another version of the policies came into force meanwhile, and this was to follow an earlier one.").
			WithHint("It has to be submitted again, on what is in force.")
)

// signable is a publication that a page asks to be signed: as it is shown still.
func (s *Server) signable(r *http.Request, v *visitor, shownView string) (shown, error) {
	if err := s.mayAct(r, v); err != nil {
		return shown{}, err
	}
	x, err := s.shownPublication(r.Context(), r.PathValue("id"))
	switch {
	case err != nil:
		return x, err
	case x.state == view.PublicationOvertaken:
		return x, errMoved
	case x.state == view.PublicationSigned:
		return x, ruleset.AlreadySigned()
	case x.state != view.PublicationUnsigned:
		return x, ruleset.Over()
	case shownView != viewOf(x.text):
		return x, errShownOld
	}
	return x, nil
}

// signOptions asks for a signature. It is the first thing that the button does; the
// challenge is kept, and one that was given before for the same counts no more.
func (s *Server) signOptions(w http.ResponseWriter, r *http.Request, v *visitor) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	x, err := s.signable(r, v, b.get("view"))
	if err != nil {
		return err
	}
	keys, err := s.signers(r, v, x.ID)
	if err != nil {
		return err
	}
	if len(keys.counting) == 0 {
		return problem.New(problem.Denied, "no_passkey", "You have no passkey that counts for this.").WithHint("Add one, or ask another administrator.")
	}
	what, err := s.asks(w, r, v, &x)
	if err != nil {
		return err
	}
	h := factor.Holder{Handle: factor.HandleOf(v.person.Subject), Username: v.person.Username, Name: v.person.Name, Passkeys: keys.counting}
	options, keep, err := s.Ceremony.SigningOptions(h, what, s.now())
	if err != nil {
		return err
	}
	said := map[string]any{"session": v.ses.ID, "action": string(policy.PolicyPublish), "publication": x.ID}
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.ChallengeGive, Kind: audit.StepUpAsked, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{keep}, Parts: []audit.Part{{Person: v.person.ID, Body: said}}}, nil
		},
	})
	if err != nil {
		return err
	}
	return publicKey(w, options)
}

// signFinish takes a signature and, if that is wanted, puts in force what was signed.
func (s *Server) signFinish(w http.ResponseWriter, r *http.Request, v *visitor) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	x, err := s.signable(r, v, b.get("view"))
	if err != nil {
		return err
	}
	got, err := s.signature(w, r, v, &x, b)
	if err != nil {
		s.refusedQuietly(policy.PolicyPublish, err)
		return err
	}
	here := ruleset.SignPath(x.ID)
	if err := s.sign(r, v, x.ID, got); err != nil {
		return err
	}
	if b.get("then") != "put" {
		return location(w, withQuery(here, "done", "policy-signed"))
	}
	if err := s.putSigned(r, v, x.ID, got.Proof); err != nil {
		web.RecordOf(r).Add(slog.String("error", err.Error()))
		return location(w, withQuery(here, "done", "policy-signed-only"))
	}
	return location(w, withQuery(here, "done", "policy-put"))
}

// signature verifies the answer of v's passkey to the challenge that it names.
func (s *Server) signature(w http.ResponseWriter, r *http.Request, v *visitor, x *shown, b body) (factor.Signed, error) {
	what, err := s.asks(w, r, v, x)
	if err != nil {
		return factor.Signed{}, err
	}
	key, err := factor.SigningKey(b.Credential)
	if err != nil {
		return factor.Signed{}, err
	}
	kept, err := s.Store.OnceValue(r.Context(), once.Signing, key)
	var gone *once.Gone
	if errors.As(err, &gone) {
		return factor.Signed{}, factor.StaleSigning().Because(err)
	}
	if err != nil {
		return factor.Signed{}, err
	}
	whose := ""
	got, err := s.Ceremony.Sign(kept, what, b.Credential, s.now(), s.own(r, v, &whose))
	if err != nil {
		s.wrongPasskey(r, whose, err)
	}
	return got, err
}

// sign is the act: decided with the proof that the signature itself is, after everything
// that has to hold of what is signed was proved again.
func (s *Server) sign(r *http.Request, v *visitor, id string, got factor.Signed) error {
	in := signing(v)
	in.For, in.From, in.Proofs, in.Spend = portalItself, s.Origin(r), []assurance.Proof{got.Proof}, []once.Spend{got.Spend}
	in.Refs.Credential = []string{got.Use.ID}
	var p ruleset.Publication
	var check func(policy.Input) error
	var refusal func() error
	in.Prepare, refusal = recovery.Judged(func(ctx context.Context) (err error) {
		p, check, err = s.Rollouts.Desk.Signing(ctx, id, s.now())
		return err
	})
	in.Changes = func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
		if err := refusal(); err != nil {
			return act.Effect{}, err
		}
		parts := append(about(v, "factor", got.Use.ID, "counter", got.Count), audit.Part{Body: p.Said()})
		if err := check(f.Input); err != nil {
			return act.Effect{Parts: parts}, err
		}
		signed, err := p.Sign(ruleset.Signature{
			By: v.person.ID, Credential: got.Use.ID, Ceremony: got.Ceremony, ClientData: got.ClientData,
			AuthenticatorData: got.AuthenticatorData, Signature: got.Signature, Key: got.Key,
		}, s.Issuer, f.Input.Context.Now)
		return act.Effect{Changes: []act.Change{signed, got.Use}, Parts: parts}, err
	}
	_, err := s.Do.Do(r.Context(), in)
	var gone *once.Gone
	if errors.As(err, &gone) { // another page took its place while this was looked at
		return factor.StaleSigning().Because(err)
	}
	return spentAsExpired(err)
}

// putSigned puts in force what v has just signed, by the same proof.
func (s *Server) putSigned(r *http.Request, v *visitor, id string, proof assurance.Proof) error {
	p, err := s.Rollouts.Desk.Publications.Publication(r.Context(), id)
	if err != nil {
		return err
	}
	in, err := s.carrying(r.Context(), v, &p)
	if err == nil {
		in.For, in.From, in.Proofs = portalItself, s.Origin(r), []assurance.Proof{proof}
		_, err = s.Do.Do(r.Context(), in)
	}
	if err != nil { // whoever waited for the signature may have been quicker
		_, err = s.Rollouts.Desk.CarriedOut(r.Context(), id, err)
	}
	return err
}
