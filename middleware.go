package countersign

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

// Protect lets through to next only requests with a token that is good and
// meets the requirements; next finds it with TokenFrom. Anything else is
// answered here: 401 before any requirement is looked at if the token does not
// count, then 401 or 403 with what would do (RFC 6750, RFC 9470, RFC 9728), and
// 503 if it cannot be found out whether the token still stands.
//
// It belongs outside of handlers that depend on what exists: the answer is the
// same whether or not the thing asked for does (mechanisms A11).
func (v *Verifier) Protect(next http.Handler, reqs ...Requirement) http.Handler {
	rt := &route{}
	for _, r := range reqs {
		r(rt)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := v.authenticate(r)
		if err == nil {
			err = v.standing(r.Context(), t, rt.sensitive, rt.outage)
		}
		if v.cfg.DemandNonce {
			w.Header().Set("DPoP-Nonce", v.nonces.current(v.now()))
		}
		if err != nil {
			v.refuse(w, r, rt, err)
			return
		}
		if verdict := rt.judge(t, v.now()); verdict.status != 0 {
			v.answer(w, r, t, verdict)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), tokenKey{}, &admitted{t, v}))
		if rt.action != "" {
			if err := v.Authorize(r.Context(), t, rt.action, rt.on(r)); err != nil {
				v.decline(w, r, t, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// body is what a refusal says in JSON, beside the headers.
type body struct {
	Error           string   `json:"error"`
	Description     string   `json:"error_description,omitempty"`
	ACRValues       string   `json:"acr_values,omitempty"`
	MaxAge          int      `json:"max_age,omitempty"`
	Scope           string   `json:"scope,omitempty"`
	ClientAssurance string   `json:"client_assurance,omitempty"`
	Ref             string   `json:"ref"`
	values          []string // WWW-Authenticate
	status          int
}

// refuse answers a request whose token does not count.
func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, rt *route, err error) {
	p := problem.From(err)
	if p == nil {
		p = errUnknown.Because(err)
	}
	b := body{Error: p.Code, Description: p.Detail, status: http.StatusUnauthorized}
	meta := v.MetadataURL()
	switch p.Kind {
	case problem.Unavailable:
		b.status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	case problem.Invalid:
		b.status = http.StatusBadRequest
	}
	if b.status != http.StatusServiceUnavailable {
		code, text := p.Code, p.Detail
		if p == errNoToken {
			code, text = "", "" // RFC 6750 section 3.1: nothing about a token that was not sent
		}
		scope := ""
		if p == errNoToken {
			scope = strings.Join(rt.scopes, " ")
		}
		used, _, _ := credentials(r.Header)
		if p == errBound {
			used = "DPoP" // the token's scheme, not the one it was sent with
		}
		// Bearer goes first: clients that know no other scheme look at the first
		// challenge only.
		if v.cfg.AllowBearer && used != "DPoP" {
			b.values = append(b.values, challenge("Bearer", "error", code, "error_description", text, "scope", scope, "resource_metadata", meta))
		}
		if used != "Bearer" || !v.cfg.AllowBearer {
			b.values = append(b.values, challenge("DPoP", "error", code, "error_description", text, "algs", proofAlgorithms, "scope", scope, "resource_metadata", meta))
		}
	}
	v.write(w, r, b, err)
}

// answer refuses a good token that does not suffice.
func (v *Verifier) answer(w http.ResponseWriter, r *http.Request, t *Token, d verdict) {
	b := body{
		Error: d.code, Description: d.text, ACRValues: strings.Join(d.acrValues, " "), MaxAge: int(d.maxAge / time.Second),
		Scope: strings.Join(d.scope, " "), ClientAssurance: d.assurance, status: d.status,
	}
	if !d.bare {
		age := ""
		if b.MaxAge > 0 {
			age = strconv.Itoa(b.MaxAge)
		}
		b.values = []string{challenge(t.Scheme, "error", d.code, "error_description", d.text, "acr_values", b.ACRValues, "max_age", age,
			"scope", b.Scope, "client_assurance", d.assurance, "resource_metadata", v.MetadataURL())}
	}
	v.write(w, r, b, nil)
}

func (v *Verifier) write(w http.ResponseWriter, r *http.Request, b body, cause error) {
	b.Ref = reference()
	v.tally.refused(b.Error)
	h := w.Header()
	h["Www-Authenticate"] = b.values
	if len(b.values) == 0 {
		h.Del("WWW-Authenticate")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Countersign-Ref", b.Ref)
	h.Set("Content-Type", "application/json")
	v.log.Info("request refused", "ref", b.Ref, "status", b.status, "code", b.Error, "method", r.Method, "path", r.URL.Path, "cause", cause)
	text, err := json.Marshal(b)
	if err != nil {
		text = []byte("{}") // strings and numbers always marshal
	}
	w.WriteHeader(b.status)
	_, _ = w.Write(append(text, '\n'))
}

// reference is what connects an answer with the log: no secret, no meaning.
var reference = func() string {
	var b [3]byte
	_, _ = rand.Read(b[:])
	return strings.ToUpper(hex.EncodeToString(b[:]))
}
