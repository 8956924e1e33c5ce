package portal

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// addPasskey is the page that adds one to an account.
const addPasskey = view.PathPasskeys + "/add"

// models names authenticators by AAGUID, where the maker publishes it. It is a
// hint for the eye: without verified attestation anybody can claim one.
var models = map[string]string{
	"fbfc3007-154e-4ecc-8c0b-6e020557d7bd": "Apple Passwords",
	"dd4ec289-e01d-41c9-bb89-70fa845d4bf2": "Apple Passwords (managed)",
	"ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4": "Google Password Manager",
	"adce0002-35bc-c60a-648b-0b25f1f05503": "Chrome on macOS",
	"08987058-cadc-4b81-b6e1-30de50dcbe96": "Windows Hello",
	"9ddd1817-af5a-4672-a2b9-3e3dd95000a9": "Windows Hello",
	"6028b017-b1d4-4c02-b4b3-afcdafc96bb2": "Windows Hello",
	"bada5566-a7aa-401f-bd96-45619a55120d": "1Password",
	"d548826e-79b4-40a3-a3d8-11116f7e8349": "Bitwarden",
	"531126d6-e717-415c-9320-3d9aa6981239": "Dashlane",
}

// passkey is how a page shows one of v's passkeys.
func (v *visitor) passkey(k factor.Passkey) view.Passkey {
	return view.Passkey{
		Name: k.Name, Model: models[strings.ToLower(k.AAGUID)], Synced: k.BackupEligible,
		Hardware: !k.BackupEligible && k.Attestation == "verified", AddedAt: k.CreatedAt, LastUsedAt: k.UsedAt,
		Counts: k.ProbationUntil, Here: usedWith(v.ses.Proofs, k.ID),
		Rename:    view.Form{Action: view.PathPasskeys + "/rename", Hidden: []view.Field{{Name: "id", Value: k.ID}}},
		RemoveURL: removeURL(k.ID),
	}
}

// usedWith reports whether one of the proofs was made with the factor.
func usedWith(proofs []assurance.Proof, credential string) bool {
	return slices.ContainsFunc(proofs, func(p assurance.Proof) bool { return p.Credential == credential })
}

func (s *Server) passkeys(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return s.passkeyList(w, r, v, "", view.Input{})
}

// passkeyList shows v's passkeys and other ways to sign in, with what was wrong
// with a new name for one.
func (s *Server) passkeyList(w http.ResponseWriter, r *http.Request, v *visitor, renamed string, name view.Input) error {
	keys, err := s.Store.PasskeysOf(r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	m := view.Passkeys{AddURL: addPasskey, Signal: &view.Signal{
		RPID: s.rpID(), UserID: b64(factor.HandleOf(v.person.Subject)), Name: v.person.Username, DisplayName: v.person.Name,
	}}
	for _, k := range keys {
		item := v.passkey(k)
		if !s.now().Before(item.Counts) {
			item.Counts = time.Time{}
		}
		if k.ID == renamed {
			item.NewName = name
		}
		m.Items = append(m.Items, item)
		m.Signal.Credentials = append(m.Signal.Credentials, b64(k.CredentialID))
	}
	if err := s.methods(r.Context(), v, &m, renamed, name); err != nil {
		return err
	}
	return s.show(w, r, v, view.PathPasskeys, m)
}

// ownFactor is a live factor of v; what is another's looks like nothing.
func (s *Server) ownFactor(r *http.Request, v *visitor, id string) (k factor.Factor, all []factor.Factor, err error) {
	if all, err = s.Store.FactorsOf(r.Context(), v.person.ID); err != nil {
		return k, nil, err
	}
	i := slices.IndexFunc(all, func(k factor.Factor) bool { return k.ID == id })
	if i < 0 {
		return k, nil, problem.New(problem.NotFound, "factor_not_found", "You have no such passkey or other way to sign in. It may have been removed already.")
	}
	return all[i], all, nil
}

// enrolment is the act of adding a passkey to v's account.
func enrolment(v *visitor) act.Intent {
	return act.Intent{Action: policy.FactorEnrol, Kind: audit.FactorEnrolled, Refs: self(v.ses, nil)}
}

func (s *Server) passkeyAdd(w http.ResponseWriter, r *http.Request, v *visitor) error {
	here := addPasskey
	if tx := r.URL.Query().Get("tx"); tx != "" {
		here = withQuery(addPasskey, "tx", tx)
	}
	if ok, err := s.may(w, r, enrolment(v), here, "passkeys"); !ok {
		return err
	}
	return s.show(w, r, v, "", view.EnrolPasskey{
		Reason: view.EnrolAnother, Account: v.person.Username, Name: view.Input{Value: browserName(r.UserAgent())},
		Ceremony: enrolCeremony("", r.URL.Query().Get("tx")), Back: view.PathPasskeys,
	})
}

// enrolCeremony is the ceremony that adds a passkey to the account of whoever is
// signed in; then is a key of afterEnrol, tx the interaction to go on with.
func enrolCeremony(then, tx string) view.Ceremony {
	c := view.Ceremony{
		Options: view.PathPasskeys + "/options", Finish: view.PathPasskeys + "/finish", Hidden: []view.Field{{Name: "then", Value: then}},
	}
	if tx != "" {
		c.Hidden = append(c.Hidden, view.Field{Name: "tx", Value: tx})
	}
	return c
}

// afterEnrol is where adding a passkey leads.
var afterEnrol = map[string]string{
	"":       view.PathPasskeys + "?done=passkey-added",
	"setup":  "/setup/codes",
	"invite": "/invite/codes",
}

// secondPasskey offers a second passkey to somebody who has just made their
// first. here is the page's own path, later where its "later" posts to.
func (s *Server) secondPasskey(w http.ResponseWriter, r *http.Request, v *visitor, here, later, then string) error {
	if ok, err := s.may(w, r, enrolment(v), here, "passkeys"); !ok {
		return err
	}
	keys, err := s.Store.PasskeysOf(r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	if then == "" {
		then = "invite"
	}
	m := view.EnrolPasskey{
		Reason: view.EnrolSecond, Account: v.person.Username, Name: view.Input{Value: "Second passkey"}, Setup: then == "setup",
		Ceremony: enrolCeremony(then, ""), Later: &view.Form{Action: later},
	}
	if len(keys) > 0 {
		made := v.passkey(keys[len(keys)-1])
		m.Made = &made
	}
	return s.show(w, r, v, "", m)
}

// stale is for the script of a page that was open for longer than its proof
// counts.
var stale = problem.New(problem.Unauthenticated, "proof_stale", "You confirmed that it's you too long ago for this.").
	WithHint("Reload the page to confirm it again.")

func (s *Server) passkeyOptions(w http.ResponseWriter, r *http.Request, v *visitor) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	if _, err := passkeyName(b.get("passkey_name")); err != nil {
		return err
	}
	in := enrolment(v)
	in.For, in.From = portalItself, s.Origin(r)
	dec, _, err := s.Do.Judge(r.Context(), in)
	switch {
	case err != nil:
		return err
	case dec.Outcome == policy.StepUp:
		return stale
	case dec.Review:
		return s.Do.Refuse(r.Context(), in)
	case dec.Outcome != policy.Allow:
		return dec.Problem(s.Ladder)
	}
	h, err := s.holder(r.Context(), v.person)
	if err != nil {
		return err
	}
	if len(h.Passkeys) >= factor.KindPasskey.Max() {
		return factor.KindPasskey.Full()
	}
	bound, err := s.bindTo(w, r, "enrol", v.ses.ID)
	if err != nil {
		return err
	}
	opts, err := s.Ceremony.EnrolOptions(h, bound, s.now())
	if err != nil {
		return err
	}
	return publicKey(w, opts)
}

// passkeyFinish adds the passkey that was made.
func (s *Server) passkeyFinish(w http.ResponseWriter, r *http.Request, v *visitor) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	name, err := passkeyName(b.get("passkey_name"))
	if err != nil {
		return err
	}
	next, ok := afterEnrol[b.get("then")]
	if !ok {
		next = afterEnrol[""]
	}
	if tx := b.get("tx"); tx != "" {
		next = after(tx, "")
	}
	h, err := s.holder(r.Context(), v.person)
	if err != nil {
		return err
	}
	bound, err := s.bindTo(w, r, "enrol", v.ses.ID)
	if err != nil {
		return err
	}
	key, _, challenge, err := s.Ceremony.Enrolled(h, v.person.ID, bound, b.Credential, s.now())
	if err != nil {
		s.refusedQuietly(policy.FactorEnrol, err)
		return err
	}
	key.Name = name
	in := enrolment(v)
	in.For, in.From, in.Spend = portalItself, s.Origin(r), []once.Spend{challenge}
	in.Changes = func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
		key.ProbationUntil = time.Time{}
		if f.Input.Context.NoPasskey && !v.newcomer() {
			key.ProbationUntil = s.now().Add(factor.Probation)
		}
		return act.Effect{
			Changes: []act.Change{factor.Enrol{Passkey: key}}, Leaf: key.ID, Parts: about(v, "with", "passkey", "name", key.Name, "factor", key.ID),
		}, nil
	}
	_, err = s.Do.Do(r.Context(), in)
	switch {
	case errors.Is(err, problem.StepUp):
		return stale.Because(err)
	case err != nil:
		return spentAsExpired(err)
	}
	return location(w, next)
}

// about is what a record says of v, who acts, beside the session.
func about(v *visitor, pairs ...string) []audit.Part {
	said := map[string]any{"session": v.ses.ID}
	for i := 0; i+1 < len(pairs); i += 2 {
		said[pairs[i]] = pairs[i+1]
	}
	return []audit.Part{{Person: v.person.ID, Body: said}}
}

func (s *Server) passkeyRename(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	k, _, err := s.ownFactor(r, v, f.Get("id"))
	if err != nil {
		return err
	}
	name, err := passkeyName(f.Get("passkey_name"))
	if err != nil {
		in, err := wrong(f.Get("passkey_name"), err)
		if err != nil {
			return err
		}
		return s.passkeyList(w, r, v, k.ID, in)
	}
	ok, err := s.perform(w, r, act.Intent{
		Action: policy.FactorRename, Kind: audit.FactorRenamed, Refs: self(v.ses, []string{k.ID}),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{factor.Rename{ID: k.ID, Name: name}}, Parts: about(v, "with", k.Kind.Word(), "name", name, "factor", k.ID),
			}, nil
		},
	}, view.PathPasskeys, "passkeys")
	if !ok {
		return err
	}
	return seeOther(w, r, view.PathPasskeys+"?done="+doneWord(k.Kind, "renamed"))
}

// doneWord is the key of the notice for what was done to a factor.
func doneWord(k factor.Kind, done string) string {
	if k == factor.KindPasskey {
		return "passkey-" + done
	}
	return done
}

// removal is the act of removing one of v's factors; weaken says that it is meant
// to leave no passkey.
func removal(v *visitor, k factor.Factor, weaken bool) act.Intent {
	return act.Intent{
		Action: policy.FactorRemove, Kind: audit.FactorRemoved, Refs: self(v.ses, []string{k.ID}),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{factor.Remove{ID: k.ID, Person: v.person.ID, Weaken: weaken}},
				Parts:   about(v, "with", k.Kind.Word(), "name", k.Name, "factor", k.ID),
			}, nil
		},
	}
}

func removeURL(id string) string { return withQuery(view.PathPasskeys+"/remove", "id", id) }

func (s *Server) passkeyRemove(w http.ResponseWriter, r *http.Request, v *visitor) error {
	k, all, err := s.ownFactor(r, v, r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	m := view.RemovePasskey{
		Passkey: view.Passkey{Name: k.Name}, AddURL: addPasskey, Back: view.PathPasskeys,
		Form: view.Form{Action: view.PathPasskeys + "/remove", Hidden: []view.Field{{Name: "id", Value: k.ID}}},
	}
	if k.Kind == factor.KindPasskey {
		key, err := s.Store.Passkey(r.Context(), k.ID)
		if err != nil {
			return err
		}
		m.Passkey = v.passkey(key)
	} else {
		m.Other = k.Kind.Word()
	}
	left := map[factor.Kind]int{}
	for _, f := range all {
		left[f.Kind]++
	}
	left[k.Kind]--
	m.Weakens = k.Kind == factor.KindPasskey && left[factor.KindPasskey] == 0
	if m.Only = left[factor.KindPasskey] == 0 && (left[factor.KindPassword] == 0 || left[factor.KindTOTP] == 0); m.Only {
		return s.show(w, r, v, view.PathPasskeys, m)
	}
	if m.Weakens {
		m.Form.Hidden = append(m.Form.Hidden, view.Field{Name: "weaken", Value: "yes"})
	}
	if ok, err := s.may(w, r, removal(v, k, m.Weakens), removeURL(k.ID), "passkeys"); !ok {
		return err
	}
	t, err := s.tree(r.Context(), v.person, v.ses.ID)
	if err != nil {
		return err
	}
	if words := t.begunWith(k.ID).Ends(); words != "" {
		m.Ends = []string{words}
	}
	return s.show(w, r, v, view.PathPasskeys, m)
}

// passkeyRemoved ends a factor and what descends from it. The last way in stays:
// the store refuses it whatever this page showed.
func (s *Server) passkeyRemoved(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	k, _, err := s.ownFactor(r, v, f.Get("id"))
	if err != nil {
		return err
	}
	ok, err := s.perform(w, r, removal(v, k, f.Get("weaken") == "yes"), removeURL(k.ID), "passkeys")
	if code := problem.CodeOf(err); code == "last_factor" || code == "last_passkey" {
		return seeOther(w, r, removeURL(k.ID)) // which says so, with the way out
	}
	if !ok {
		return err
	}
	return s.whereNext(w, r, view.PathPasskeys+"?done="+doneWord(k.Kind, "removed"))
}
