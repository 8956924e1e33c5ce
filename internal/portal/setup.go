package portal

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// What the sealed state of a link's pages is typed by.
const (
	sealedSetup  = "setup"
	sealedInvite = "invite"
)

func (s *Server) setupRoutes(handle func(string, web.Handler)) {
	handle("GET /setup", s.setup)
	handle("POST /setup/open", s.openLink(once.Setup, sealedSetup, "/setup/name"))
	handle("GET /setup/name", s.setupName)
	handle("POST /setup/name", s.setupNamed)
	handle("GET /setup/passkey", s.setupPasskey)
	handle("POST /setup/passkey/options", s.setupOptions)
	handle("POST /setup/passkey/finish", s.setupFinish)
	handle("GET /setup/password", s.setupPassword)
	handle("POST /setup/password", s.setupPasswordChosen)
	handle("GET /setup/app", s.setupApp)
	handle("POST /setup/app", s.setupAppShown)
	handle("GET /setup/second", s.signedIn(s.setupSecond))
	handle("POST /setup/later", func(w http.ResponseWriter, r *http.Request) error { return seeOther(w, r, "/setup/codes") })
	handle("GET /setup/done", s.signedIn(s.setupDone))
}

// setup is where the setup link leads. Its secret is in the fragment, so this
// request does not have it and cannot spend it (mechanisms I1).
func (s *Server) setup(w http.ResponseWriter, r *http.Request) error {
	st, err := s.Store.SetUp(r.Context())
	if err != nil {
		return err
	}
	if st.Done { // who it was is for those with a genuine link
		return s.show(w, r, nil, "", view.SetupClosed{By: "an administrator", At: st.At})
	}
	return s.show(w, r, nil, "", view.OpenLink{Kind: view.SetupLink, PostURL: "/setup/open"})
}

// openLink takes the secret of a link, which the script found in its fragment or
// somebody without a script pasted, and gives the page to go on with. It reads
// nothing and spends nothing: the page says what it is worth, and one that was
// never issued looks like one that was mistyped.
func (s *Server) openLink(p once.Purpose, purpose, page string) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		script := strings.HasPrefix(r.Header.Get("Content-Type"), "application/json")
		var text string
		if script {
			b, err := readBody(r)
			if err != nil {
				return err
			}
			text = b.Secret
		} else {
			f, err := web.ParseForm(r, maxBody)
			if err != nil {
				return err
			}
			text = pasted(strings.TrimSpace(f.Get("secret")))
		}
		k := once.KeyOf(p, text)
		tx, err := s.seal(w, r, purpose, opened{Link: k[:], Person: id.New(id.Person), Subject: id.Random(id.Person)})
		if err != nil {
			return err
		}
		if !script {
			return seeOther(w, r, withQuery(page, "tx", tx))
		}
		return location(w, withQuery(page, "tx", tx))
	}
}

// setupLink judges the link behind a page of setting up. instead is the page to
// show when it does not work; nil if it does.
func (s *Server) setupLink(w http.ResponseWriter, r *http.Request, tx string) (o opened, v once.Value, instead view.View, err error) {
	problemPage := view.LinkProblem{Kind: view.SetupLink, Ref: web.RecordOf(r).Ref()}
	o, ok, err := s.unseal(w, r, sealedSetup, tx)
	if err != nil || !ok {
		return o, v, problemPage, err
	}
	v, ok, err = s.value(r.Context(), once.Setup, o.key())
	if err != nil || !ok {
		return o, v, problemPage, err
	}
	st, err := s.Store.SetUp(r.Context())
	if err != nil {
		return o, v, nil, err
	}
	if st.Done {
		closed := view.SetupClosed{By: "an administrator", At: st.At}
		p, err := s.Store.Person(r.Context(), st.Person)
		if err != nil && !problem.Refusal(err) {
			return o, v, nil, err
		}
		if err == nil {
			closed.By = p.Name
		}
		return o, v, closed, nil
	}
	if problemPage.State, problemPage.At, ok = linkState(v, s.now()); !ok {
		return o, v, problemPage, nil
	}
	return o, v, nil, nil
}

// setupName is step 1: who the first administrator is.
func (s *Server) setupName(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	o, v, instead, err := s.setupLink(w, r, tx)
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	return s.show(w, r, nil, "", nameStep(tx, v, view.Input{Value: o.Name}, view.Input{Value: o.Username}))
}

func nameStep(tx string, v once.Value, name, username view.Input) view.SetupName {
	return view.SetupName{
		Form: view.Form{Action: "/setup/name", Hidden: []view.Field{{Name: "tx", Value: tx}}},
		Name: name, Username: username, Deadline: view.Deadline{At: v.ExpiresAt},
	}
}

func (s *Server) setupNamed(w http.ResponseWriter, r *http.Request) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	o, v, instead, err := s.setupLink(w, r, f.Get("tx"))
	if err != nil {
		return err
	}
	if instead != nil {
		return s.show(w, r, nil, "", instead)
	}
	name, nameErr := account.CheckName(f.Get("display_name"))
	username, usernameErr := account.CheckUsername(f.Get("username"))
	if usernameErr == nil {
		usernameErr = s.free(r.Context(), username)
	}
	nameIn, err := wrong(f.Get("display_name"), nameErr)
	if err != nil {
		return err
	}
	usernameIn, err := wrong(f.Get("username"), usernameErr)
	if err != nil {
		return err
	}
	if nameErr != nil || usernameErr != nil {
		return s.show(w, r, nil, "", nameStep(f.Get("tx"), v, nameIn, usernameIn))
	}
	o.Name, o.Username = name, username
	tx, err := s.seal(w, r, sealedSetup, o)
	if err != nil {
		return err
	}
	return seeOther(w, r, withQuery("/setup/passkey", "tx", tx))
}

// free refuses a user name that somebody has. The account's constraint decides;
// this says so while it can still be changed.
func (s *Server) free(ctx context.Context, username string) error {
	_, err := s.Store.PersonByUsername(ctx, username)
	switch {
	case err == nil:
		return problem.New(problem.Conflict, "username_taken", "That user name is taken. Choose another one.")
	case problem.Refusal(err) && problem.From(err).Kind == problem.NotFound:
		return nil
	}
	return err
}

// setupPasskey is step 2: the first passkey.
func (s *Server) setupPasskey(w http.ResponseWriter, r *http.Request) error {
	tx := r.URL.Query().Get("tx")
	o, v, instead, err := s.setupLink(w, r, tx)
	switch {
	case err != nil:
		return err
	case instead != nil:
		return s.show(w, r, nil, "", instead)
	case o.Username == "":
		return seeOther(w, r, withQuery("/setup/name", "tx", tx))
	}
	typed, err := s.typedURL(r, "/setup/password", tx)
	if err != nil {
		return err
	}
	return s.show(w, r, nil, "", view.EnrolPasskey{
		Typed:  typed,
		Reason: view.EnrolFirst, Account: o.Username, Name: view.Input{Value: browserName(r.UserAgent())}, Setup: true,
		Ceremony: view.Ceremony{
			Options: "/setup/passkey/options", Finish: "/setup/passkey/finish", Hidden: []view.Field{{Name: "tx", Value: tx}},
		},
		Deadline: view.Deadline{At: v.ExpiresAt},
	})
}

func (o opened) holder() factor.Holder {
	return factor.Holder{Handle: factor.HandleOf(o.Subject), Username: o.Username, Name: o.Name}
}

func (s *Server) setupOptions(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	o, _, instead, err := s.setupLink(w, r, b.get("tx"))
	if err != nil {
		return err
	}
	if instead != nil || o.Username == "" {
		return linkOver("setup link")
	}
	if _, err := passkeyName(b.get("passkey_name")); err != nil {
		return err
	}
	return s.enrolOptions(w, r, sealedSetup, o.Person, o.holder())
}

// linkOver is for the script of a page whose link stopped working meanwhile.
func linkOver(what string) error {
	return problem.New(problem.Conflict, "link_over", "This "+what+" doesn't work any more.").WithHint("Reload the page: it says why.")
}

// setupFinish makes the first administrator: account, passkey, session and the
// row that closes setting up are one transaction that spends the link
// (mechanisms I3). Whoever comes second is shown who completed it.
func (s *Server) setupFinish(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	back := withQuery("/setup/name", "tx", b.get("tx"))
	o, _, instead, err := s.setupLink(w, r, b.get("tx"))
	if err != nil {
		return err
	}
	if instead != nil || o.Username == "" {
		return location(w, back)
	}
	admins, err := s.Store.GroupByName(r.Context(), group.Administrators)
	if err != nil {
		return err
	}
	bound, err := s.bindTo(w, r, sealedSetup, o.Person)
	if err != nil {
		return err
	}
	n, err := s.newcomer(r, o, bound, b)
	if err != nil {
		return err
	}
	taken, err := s.completeSetup(r, n, admins.ID)
	if err != nil {
		return err
	}
	if taken {
		return location(w, back)
	}
	n.finish(w)
	return location(w, "/setup/second")
}

// completeSetup carries out the act that makes the first administrator; taken says
// that the link or the setup was spent by somebody else.
func (s *Server) completeSetup(r *http.Request, n newcomer, admins string) (taken bool, err error) {
	n.intent.Action, n.intent.Kind = policy.SetupComplete, audit.SetupCompleted
	n.intent.Spend = append(n.intent.Spend, once.Spend{Purpose: once.Setup, Key: n.key(), Ref: n.Person})
	n.intent.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return n.effect([]string{admins}, account.SetUp{Person: n.Person, At: n.at}), nil
	}
	_, err = s.Do.Do(r.Context(), n.intent)
	if lost(err, once.Setup) || problem.CodeOf(err) == "setup_done" {
		return true, nil
	}
	if err != nil {
		return false, spentAsExpired(err)
	}
	return false, nil
}

// newcomer is somebody who comes in by a link: what is made for them.
type newcomer struct {
	opened
	at      time.Time
	with    string       // what they will sign in with, in words
	name    string       // of the passkey
	factors []act.Change // that enrol it
	session session.Open
	finish  func(http.ResponseWriter) // sets the cookies; after the commit
	intent  act.Intent                // without its action, kind and changes
}

// newcomer verifies the passkey that a newcomer just made and prepares their
// account's act. Nobody is known yet, so what fails is counted, not recorded.
func (s *Server) newcomer(r *http.Request, o opened, bound string, b body) (newcomer, error) {
	n := newcomer{opened: o, at: s.now(), with: "passkey"}
	name, err := passkeyName(b.get("passkey_name"))
	if err != nil {
		return n, err
	}
	key, proof, challenge, err := s.Ceremony.Enrolled(o.holder(), o.Person, bound, b.Credential, n.at)
	if err != nil {
		s.refusedQuietly(policy.FactorEnrol, err)
		return n, err
	}
	key.Name, n.name = name, name
	n.factors = []act.Change{factor.Enrol{Passkey: key}}
	err = s.welcome(r, &n, []assurance.Proof{proof})
	n.intent.Spend = []once.Spend{challenge}
	return n, err
}

// welcome prepares the session that a newcomer begins with.
func (s *Server) welcome(r *http.Request, n *newcomer, proofs []assurance.Proof) (err error) {
	if n.session, n.finish, err = s.newSession(r, n.Person, proofs); err != nil {
		return err
	}
	n.intent = act.Intent{
		Refs: act.Refs{Kind: policy.KindAnonymous, Actor: n.Person, Presented: true}, Proofs: proofs, For: portalItself, Quiet: true,
	}
	if n.session.NewDevice == nil {
		n.intent.Refs.Under = []string{n.session.Device}
	}
	return nil
}

// effect creates the account with its first factors and session, and does more.
func (n newcomer) effect(groups []string, more ...act.Change) act.Effect {
	said := map[string]any{"session": n.session.ID, "device": n.session.Device, "with": n.with, "network": n.session.Network}
	if n.name != "" {
		said["name"] = n.name
	}
	made := account.Create{
		Person: account.Person{ID: n.Person, Subject: n.Subject, Name: n.Name, Username: n.Username, CreatedAt: n.at}, Groups: groups,
	}
	return act.Effect{
		Changes: slices.Concat([]act.Change{made}, n.factors, []act.Change{n.session}, more), Leaf: n.session.ID,
		Parts: []audit.Part{{Person: n.Person, Body: said}},
	}
}

// setupSecond is step 3: a second passkey, or later.
func (s *Server) setupSecond(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.settingUp(r.Context(), v); err != nil || !ok {
		return orTo(w, r, view.PathPasskeys, err)
	}
	return s.secondPasskey(w, r, v, "/setup/second", "/setup/later", "setup")
}

// settingUp reports whether v is who completed setting up.
func (s *Server) settingUp(ctx context.Context, v *visitor) (bool, error) {
	st, err := s.Store.SetUp(ctx)
	return st.Done && st.Person == v.person.ID, err
}

func orTo(w http.ResponseWriter, r *http.Request, page string, err error) error {
	if err != nil {
		return err
	}
	return seeOther(w, r, page)
}

// setupDone is step 4.
func (s *Server) setupDone(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.settingUp(r.Context(), v); err != nil || !ok {
		return orTo(w, r, view.PathHome, err)
	}
	keys, err := s.Store.PasskeysOf(r.Context(), v.person.ID)
	if err != nil {
		return err
	}
	return s.show(w, r, v, "", view.SetupDone{
		Name: v.person.Name, Passkeys: len(keys),
		Commands: []view.Command{
			{What: "Sign in from a terminal", Line: "countersign login " + s.Issuer},
			{What: "See who you are and until when", Line: "countersign auth status"},
			{What: "Invite somebody", Line: "countersign person invite NAME"},
		},
		Next: view.Link{Text: "Open my account", URL: view.PathHome},
	})
}
