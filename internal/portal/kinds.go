package portal

import (
	"net/http"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/web"
)

const kindPath = view.PathKinds + "/change"

// kindWords are the kinds that an administrator may allow or not, as pages call them.
var kindWords = []struct {
	kind             factor.Kind
	name, lower, say string
}{
	{factor.KindPassword, "Passwords", "passwords", "With a code from an app, they do where no phishing-resistant sign-in is asked for. They work without JavaScript."},
	{factor.KindTOTP, "Authenticator apps", "authenticator apps", "They show the code that goes with a password. Neither is of use without the other."},
}

func (s *Server) kindRoutes(handle func(string, web.Handler)) {
	handle("GET "+view.PathKinds, s.signedIn(s.kinds))
	handle("GET "+kindPath, s.signedIn(s.kind))
	handle("POST "+kindPath, s.signedIn(s.kindPosted))
}

// kinds shows which ways to sign in people may use.
func (s *Server) kinds(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.PersonRead, 0), view.PathKinds, "kinds"); !ok {
		return err
	}
	on, err := s.Store.Allowed(r.Context())
	if err != nil {
		return err
	}
	m := view.Kinds{Items: []view.FactorKind{{Name: "Passkeys and security keys", Note: "The strongest, and always allowed.", On: true}}}
	for _, k := range kindWords {
		m.Items = append(m.Items, view.FactorKind{Name: k.name, Note: k.say, On: on[k.kind], ChangeURL: kindURL(k.kind)})
	}
	return s.show(w, r, v, view.PathPeople, m)
}

func kindURL(k factor.Kind) string { return withQuery(kindPath, "kind", string(k)) }

// kind asks before a way to sign in is switched.
func (s *Server) kind(w http.ResponseWriter, r *http.Request, v *visitor) error {
	k, err := factor.CheckAllow(r.URL.Query().Get("kind"))
	if err != nil {
		return err
	}
	if ok, err := s.may(w, r, asAdmin(v, policy.FactorAllow, 0), kindURL(k), "kinds"); !ok {
		return err
	}
	on, err := s.Store.Allowed(r.Context())
	if err != nil {
		return err
	}
	m := view.KindChange{On: on[k], Back: view.PathKinds}
	m.Form = view.Form{Action: kindPath, Hidden: []view.Field{{Name: "kind", Value: string(k)}, {Name: "to", Value: toggled(on[k])}}}
	for _, w := range kindWords {
		if w.kind == k {
			m.Name = w.lower
		}
	}
	return s.show(w, r, v, view.PathPeople, m)
}

// toggled is what a kind is switched to. It is in the form, so that two
// administrators who switch at once do not undo each other.
func toggled(on bool) string {
	if on {
		return "off"
	}
	return "on"
}

func (s *Server) kindPosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	k, err := factor.CheckAllow(f.Get("kind"))
	if err != nil {
		return err
	}
	on := f.Get("to") == "on"
	kind := audit.FactorForbidden
	if on {
		kind = audit.FactorAllowed
	}
	in := asAdmin(v, policy.FactorAllow, kind)
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{
			Changes: []act.Change{factor.Allow{Kind: k, On: on}}, Parts: append(about(v), audit.Part{Body: map[string]any{"with": k.Word()}}),
		}, nil
	}
	if ok, err := s.perform(w, r, in, kindURL(k), "kinds"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(view.PathKinds, "done", kind.Name()))
}
