package oauth

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// visit is one way through the token endpoint, ready to succeed.
type visit struct {
	form url.Values
	opts []option
	gone map[string]string // what can be switched off: its node
	more map[string]func(*visit)
	end  func(*visit) // makes it expired
}

// visits makes a fresh visit for each grant type and client kind; the walk fails
// if the server offers a grant that is not here.
func (r *rig) visits() map[string]func() *visit {
	consented := func() string {
		c := grant.Consent{ID: id.New("cns_"), Person: r.person.ID, Client: r.plain.ID, Resources: []string{r.notes.ID}, Scopes: []string{"openid", "notes:read"}, At: r.clock.now()}
		r.do(audit.ConsentGiven, grant.Remember{Consent: c})
		return c.ID
	}
	fresh := func() { // somebody who is not suspended, with everything anew
		r.seedAgain()
		r.ses = r.signIn(r.person, r.passkey, false)
	}
	device := func() string { return got(r.nodes[0].store.Session(context.Background(), r.ses))(r).Device }
	person := func(c client.Client) map[string]string {
		return map[string]string{"person": r.person.ID, "client": c.ID, "session": r.ses, "credential": r.passkey, "device": device()}
	}
	wrong := map[string]func(*visit){
		"wrong client":   func(v *visit) { v.form.Set("client_id", "app") }, // the first of its name, still there
		"foreign target": func(v *visit) { v.form.Set("resource", r.foreign.URI) },
		"unknown target": func(v *visit) { v.form.Set("resource", "https://nowhere.example") },
		"wider scope":    func(v *visit) { v.form.Set("scope", "notes:read vault:open") },
	}
	with := func(extra map[string]func(*visit)) map[string]func(*visit) {
		out := map[string]func(*visit){}
		for k, f := range wrong {
			out[k] = f
		}
		for k, f := range extra {
			out[k] = f
		}
		return out
	}
	return map[string]func() *visit{
		"authorization_code": func() *visit {
			fresh()
			cns := consented()
			v := &visit{form: r.redemption(r.plain, r.code(r.plain)), gone: person(r.plain), end: func(*visit) { r.clock.move(grant.CodeLifetime) }}
			v.gone["consent"] = cns
			v.more = with(map[string]func(*visit){
				"wrong verifier": func(v *visit) { v.form.Set("code_verifier", strings.Repeat("x", 43)) },
				"no verifier":    func(v *visit) { v.form.Del("code_verifier") },
				"wrong redirect": func(v *visit) { v.form.Set("redirect_uri", "https://third.example.com/cb2") },
				"reused":         func(v *visit) { r.tokens(r.post("/oauth/token", v.form)) },
			})
			return v
		},
		"refresh_token": func() *visit {
			fresh()
			tok := r.granted(r.app)
			fam, gr := r.familyOf(tok.RefreshToken)
			v := &visit{
				form: form("grant_type", "refresh_token", "client_id", r.app.ClientID, "refresh_token", tok.RefreshToken), gone: person(r.app),
				end: func(*visit) { r.clock.move(grant.FamilyIdle) },
			}
			v.gone["family"], v.gone["grant"] = fam, gr
			v.more = with(map[string]func(*visit){
				"reused": func(v *visit) {
					r.tokens(r.post("/oauth/token", v.form))
					r.clock.move(grant.WindowSameNetwork + time.Second)
				},
				"too old": func(v *visit) { r.clock.move(grant.FamilyLifetime) },
			})
			return v
		},
		"client_credentials": func() *visit {
			fresh()
			return &visit{
				form: form("grant_type", "client_credentials", "client_id", r.svc.ClientID, "client_secret", r.svcSecret),
				gone: map[string]string{"client": r.svc.ID, "service": r.service.ID, "owner": r.other.ID},
				more: map[string]func(*visit){
					"foreign target": wrong["foreign target"], "unknown target": wrong["unknown target"], "wider scope": wrong["wider scope"],
					"wrong client": func(v *visit) { v.form.Set("client_id", "notes-api") },
				},
			}
		},
	}
}

// exact says what each misfortune is answered with: by grant where it differs.
func exact(name, why string) (status int, code string) {
	switch why {
	case "client": // the client itself is refused before anything else
		return 401, "invalid_client"
	case "foreign target", "unknown target":
		return 400, "invalid_target"
	case "wider scope":
		return 400, "invalid_scope"
	case "service", "owner":
		return 400, "unauthorized_client"
	case "wrong client":
		if name == "client_credentials" {
			return 401, "invalid_client"
		}
	}
	return 400, "invalid_grant"
}

// Every grant on offer × everything that can be switched off or be wrong: the
// exact error, and before that the same visit succeeds (the control).
func TestEveryGrantAndEverySwitch(t *testing.T) {
	engines(t, 1, func(r *rig) {
		visits := r.visits()
		for _, g := range grants {
			if visits[string(g.name)] == nil {
				r.Errorf("the walk does not know the grant %s", g.name)
			}
		}
		for name, make := range visits {
			v := make()
			r.expect(name, 200, "", r.post("/oauth/token", v.form, v.opts...))
			for what := range v.gone {
				for how, stop := range map[string]func(string){"ended": r.end, "frozen": r.freeze} {
					v := make()
					stop(v.gone[what])
					status, code := exact(name, what)
					r.expect(name+", "+what+" "+how, status, code, r.post("/oauth/token", v.form, v.opts...))
					if how == "frozen" { // thawed, the same request works: nothing was consumed
						r.do(audit.GrantEnded, lineage.Thaw{ID: v.gone[what]})
						r.expect(name+", "+what+" thawed", 200, "", r.post("/oauth/token", v.form, v.opts...))
					}
				}
			}
			for why, spoil := range v.more {
				v := make()
				spoil(v)
				status, code := exact(name, why)
				r.expect(name+", "+why, status, code, r.post("/oauth/token", v.form, v.opts...))
			}
			if v := make(); v.end != nil {
				v.end(v)
				r.expect(name+", expired", 400, "invalid_grant", r.post("/oauth/token", v.form, v.opts...))
			}
		}
	})
}

// The same switches turn what was issued off, at introspection and userinfo.
func TestEverySwitchEndsWhatWasIssued(t *testing.T) {
	engines(t, 1, func(r *rig) {
		for name, make := range r.visits() {
			for what := range make().gone {
				v := make()
				tok := r.tokens(r.post("/oauth/token", v.form, v.opts...))
				if !r.active(tok.AccessToken) {
					r.Fatalf("%s: not active at first", name)
				}
				r.freeze(v.gone[what])
				if r.active(tok.AccessToken) {
					r.Errorf("%s: active although its %s is frozen", name, what)
				}
				if name != "client_credentials" {
					if a := r.get("/oauth/userinfo", with("Authorization", "Bearer "+tok.AccessToken)); a.status != 401 {
						r.Errorf("%s: userinfo answers %d although the %s is frozen", name, a.status, what)
					}
				}
				r.do(audit.GrantEnded, lineage.Thaw{ID: v.gone[what]})
				if !r.active(tok.AccessToken) {
					r.Errorf("%s: inactive after the %s was thawed", name, what)
				}
			}
		}
	})
}
