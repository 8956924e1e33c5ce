package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// issuer is a small authorization server with a /v1 and a sample API, on real
// sockets, that is as strict on the wire as the real one: PKCE, dpop_jkt,
// nonces, one use per code and refresh token, tokens per audience. Its person
// approves everything, unless told otherwise.
type issuer struct {
	server, api *httptest.Server
	signer      *jose.Signer
	keys        *jose.JWKSet

	mu       sync.Mutex
	codes    map[string]*flow
	families map[string]*flow // by current refresh token
	counts   map[string]int
	allowed  map[string]bool   // kinds of factors
	set      map[string]string // switches
	people   []map[string]any
	objects  map[string][]map[string]any // clients, resources
	policies []map[string]any            // versions, from the default set on
	rolled   []ruleset.Rollout
	pubs     []map[string]any // what was handed in to be signed
	service  crypto.PublicKey // that the client ci authenticates with
	jtis     map[string]bool
	idem     []string // Idempotency-Key of each attempt at keys/rotate
	authz    []url.Values
}

// flow is a grant on its way from the authorization request to its end.
type flow struct {
	redirect, challenge, jkt string
	scope                    []string
	resources                []string
	acr                      string
	authTime                 time.Time
	sub                      string
	ended                    bool
}

const nonce = "nonce-1"

func newIssuer() *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	s, err := jose.NewSigner(key, jose.ES256, "k1", jose.TypAccessToken)
	if err != nil {
		panic(err)
	}
	i := &issuer{
		signer: s, keys: &jose.JWKSet{Keys: []jose.JWK{{Key: key.Public(), KeyID: "k1", Algorithm: jose.ES256}}},
		codes: map[string]*flow{}, families: map[string]*flow{}, counts: map[string]int{}, allowed: map[string]bool{}, set: map[string]string{},
		objects: map[string][]map[string]any{"clients": {}, "resources": {}}, jtis: map[string]bool{},
		people: []map[string]any{{"id": "usr_1", "name": "Dana", "username": "dana", "state": "active", "groups": []string{"staff"}}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", i.metadata)
	mux.HandleFunc("GET /oauth/authorize", i.authorize)
	mux.HandleFunc("POST /oauth/token", i.token)
	mux.HandleFunc("POST /oauth/device_authorization", i.device)
	mux.HandleFunc("POST /oauth/revoke", i.revoke)
	mux.HandleFunc("GET /admin/publications/{id}", i.sign)
	mux.HandleFunc("/v1/", i.v1)
	i.server = httptest.NewServer(i.down(mux))
	api := http.NewServeMux()
	api.HandleFunc("GET /.well-known/oauth-protected-resource", i.resource)
	api.HandleFunc("GET /announced", i.resource)
	api.HandleFunc("/", i.sample)
	i.api = httptest.NewServer(api)
	return i
}

func (i *issuer) close() { i.server.Close(); i.api.Close() }

func (i *issuer) is(name string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.set[name]
}

func (i *issuer) count(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.counts[name]++
}

// down answers 503 to everything while the switch is set.
func (i *issuer) down(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.is("down") != "" {
			w.Header().Set("Countersign-Ref", "D0WN01")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (i *issuer) metadata(w http.ResponseWriter, _ *http.Request) {
	i.count("discovery")
	u := i.server.URL
	doc := map[string]any{
		"issuer": u, "authorization_endpoint": u + "/oauth/authorize", "token_endpoint": u + "/oauth/token",
		"revocation_endpoint": u + "/oauth/revoke", "jwks_uri": u + "/oauth/jwks",
		"authorization_response_iss_parameter_supported": true,
	}
	if i.is("devices") != "off" {
		doc["device_authorization_endpoint"] = u + "/oauth/device_authorization"
	}
	answer(w, 200, doc)
}

// device hands out codes. Its person answers the third poll, in the way that the
// switch says.
func (i *issuer) device(w http.ResponseWriter, r *http.Request) {
	jkt := i.proof(w, r, i.server.URL, "")
	if jkt == "" {
		return
	}
	_ = r.ParseForm()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.counts["device"]++
	i.authz = append(i.authz, r.PostForm)
	f := &flow{jkt: jkt, scope: strings.Fields(r.PostForm.Get("scope")), acr: "mfa", authTime: time.Now(), sub: "sub-dana"}
	if len(f.scope) == 0 {
		f.scope = []string{"openid", "notes:read"}
	}
	code := rand.Text()
	i.codes[code] = f
	answer(w, 200, map[string]any{
		"device_code": code, "user_code": "7Q4K-M2PX", "verification_uri": i.server.URL + "/device", "verification_uri_complete": i.server.URL + "/device?user_code=7Q4K-M2PX",
		"expires_in": 300, "interval": 1,
	})
}

// polled answers a poll that is not the one to succeed; true after it has.
func (i *issuer) polled(w http.ResponseWriter, f *flow) bool {
	i.counts["poll"]++
	code := map[int]string{1: "authorization_pending", 2: "authorization_pending"}[i.counts["poll"]]
	if i.counts["poll"] == 3 {
		code = map[string]string{"deny": "access_denied", "expire": "expired_token", "slow": "slow_down", "gone": "invalid_grant"}[i.set["devices"]]
	}
	if f == nil {
		code = "invalid_grant"
	}
	if code == "" {
		return false
	}
	body := map[string]string{"error": code}
	if i.counts["poll"] == 2 {
		body["confirmation_code"] = "482193"
	}
	answer(w, 400, body)
	return true
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (i *issuer) authorize(w http.ResponseWriter, r *http.Request) {
	i.count("authorize")
	q := r.URL.Query()
	i.mu.Lock()
	i.authz = append(i.authz, q)
	i.mu.Unlock()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	bad := err != nil || redirect.Scheme != "http" || redirect.Hostname() != "127.0.0.1" || redirect.Path != "/callback" ||
		q.Get("client_id") != clientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" ||
		len(q.Get("code_challenge")) != 43 || len(q.Get("dpop_jkt")) != 43 || len(q.Get("state")) < 20
	if bad {
		i.count("bad_authorize")
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	back := url.Values{"state": {q.Get("state")}, "iss": {i.server.URL}}
	switch i.is("answer") {
	case "deny":
		back.Set("error", "access_denied")
	case "never":
		fmt.Fprintln(w, "waiting for a person")
		return
	case "issuer":
		back.Set("iss", i.server.URL+"/")
		back.Set("code", "x")
	case "noiss":
		back.Del("iss")
		back.Set("code", "x")
	case "state":
		back.Set("state", "another")
		back.Set("code", "x")
	default:
		code := rand.Text()
		f := &flow{
			redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), jkt: q.Get("dpop_jkt"), scope: strings.Fields(q.Get("scope")),
			resources: q["resource"], acr: "mfa", authTime: time.Now().Add(-time.Hour), sub: "sub-dana",
		}
		if len(f.scope) == 0 {
			f.scope = []string{"openid", "notes:read"}
		}
		if acr := strings.Fields(q.Get("acr_values")); len(acr) > 0 && i.is("weak") == "" {
			f.acr, f.authTime = acr[0], time.Now()
		}
		if who := i.is("person"); who != "" {
			f.sub = who
		}
		back.Set("code", code)
		i.mu.Lock()
		i.codes[code] = f
		i.mu.Unlock()
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
}

// proof verifies a DPoP proof with our nonce; "" after it has answered.
func (i *issuer) proof(w http.ResponseWriter, r *http.Request, base, token string) string {
	p, err := jose.VerifyDPoP(r.Header.Get("DPoP"), jose.DPoPWant{Method: r.Method, URL: base + r.URL.Path, AccessToken: token, Now: time.Now()})
	code := ""
	switch {
	case err != nil:
		code = "invalid_dpop_proof"
	case p.Nonce != nonce:
		code = "use_dpop_nonce"
	}
	i.mu.Lock()
	if code == "" && i.jtis[p.JTI] {
		code = "invalid_dpop_proof"
	}
	i.jtis[p.JTI] = true
	i.mu.Unlock()
	if code == "" {
		return p.JKT
	}
	w.Header().Set("DPoP-Nonce", nonce)
	if token != "" {
		w.Header().Set("WWW-Authenticate", `DPoP error="`+code+`"`)
		answer(w, 401, map[string]string{"error": code})
	} else {
		answer(w, 400, map[string]string{"error": code})
	}
	return ""
}

func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	jkt := i.proof(w, r, i.server.URL, "")
	if jkt == "" {
		return
	}
	if d, err := time.ParseDuration(i.is("slow")); err == nil {
		time.Sleep(d)
	}
	_ = r.ParseForm()
	i.count(r.PostForm.Get("grant_type"))
	i.mu.Lock()
	defer i.mu.Unlock()
	refuse := func(code string) { answer(w, 400, map[string]string{"error": code}) }
	var f *flow
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		code := r.PostForm.Get("code")
		f = i.codes[code]
		delete(i.codes, code)
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if f == nil || f.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) || f.redirect != r.PostForm.Get("redirect_uri") {
			refuse("invalid_grant")
			return
		}
	case "urn:ietf:params:oauth:grant-type:device_code":
		f = i.codes[r.PostForm.Get("device_code")]
		if i.polled(w, f) {
			return
		}
		delete(i.codes, r.PostForm.Get("device_code"))
	case "refresh_token":
		old := r.PostForm.Get("refresh_token")
		if said := refusedNow[i.set["refused"]]; said != nil && i.families[old] != nil {
			w.Header().Set("Countersign-Ref", "REF7")
			answer(w, 400, said)
			return
		}
		if f = i.families[old]; f == nil || f.ended {
			i.counts["invalid_grant"]++
			refuse("invalid_grant")
			return
		}
		delete(i.families, old)
	case "client_credentials":
		if f = i.machine(r, jkt); f == nil {
			refuse("invalid_client")
			return
		}
	default:
		refuse("unsupported_grant_type")
		return
	}
	if f.jkt != jkt || f.sub != machine && r.PostForm.Get("client_id") != clientID {
		refuse("invalid_grant")
		return
	}
	audience := r.PostForm.Get("resource")
	if audience == "" {
		audience = i.server.URL + "/v1"
	}
	if audience != i.server.URL+"/v1" && audience != i.api.URL {
		refuse("invalid_target")
		return
	}
	scope := f.scope
	if s := strings.Fields(r.PostForm.Get("scope")); len(s) > 0 {
		scope = s
	}
	life := 300
	if n, err := strconv.Atoi(i.set["life"]); err == nil {
		life = n
	}
	now := time.Now()
	access, err := i.signer.Sign(jose.AccessTokenClaims{
		Issuer: i.server.URL, Subject: f.sub, Audience: jose.Audience{audience}, ExpiresAt: jose.Date(now.Add(time.Duration(life) * time.Second)),
		IssuedAt: jose.Date(now), JTI: rand.Text(), ClientID: clientID, Scope: strings.Join(scope, " "),
		ACR: f.acr, AMR: []string{"hwk", "user"}, AuthTime: jose.Date(f.authTime), Confirmation: &jose.Confirmation{JKT: jkt},
	})
	if err != nil {
		refuse("server_error")
		return
	}
	refresh := "cs_rt_" + rand.Text()
	i.families[refresh] = f
	answer(w, 200, map[string]any{
		"access_token": access, "token_type": "DPoP", "expires_in": life, "refresh_token": refresh, "scope": strings.Join(scope, " "),
	})
}

// refusedNow are refusals that leave the grant as it is.
var refusedNow = map[string]map[string]any{
	"ask": {
		"error": "invalid_grant", "error_description": "The person has to show again who they are: This needs a recent sign-in.",
		"grant_stands": true, "acr_values": "phr phrh", "max_age": 900,
	},
	"deny": {"error": "invalid_grant", "error_description": "This is refused now.", "grant_stands": true, "review": "rvw_01ARZ3NDEKTSV4RRFFQ69G5FAV"},
}

func (i *issuer) revoke(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.counts["revoke"]++
	if f := i.families[r.PostForm.Get("token")]; f != nil {
		f.ended = true
	}
	w.WriteHeader(200)
}

// bearer verifies the token of a request; nil after it has answered.
func (i *issuer) bearer(w http.ResponseWriter, r *http.Request, base, audience string) *jose.AccessTokenClaims {
	prm := `, resource_metadata="` + i.api.URL + i.announced() + `"`
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" {
		w.Header().Set("WWW-Authenticate", `DPoP algs="ES256"`+prm)
		answer(w, 401, map[string]string{})
		return nil
	}
	t, err := jose.VerifyAccessToken(token, i.keys, jose.AccessTokenWant{Issuer: i.server.URL, Audiences: []string{audience}, Now: time.Now()})
	if err != nil || scheme != "DPoP" || i.is("ended") != "" {
		w.Header().Set("WWW-Authenticate", `DPoP error="invalid_token"`+prm)
		answer(w, 401, map[string]string{})
		return nil
	}
	if jkt := i.proof(w, r, base, token); jkt != t.Confirmation.JKT {
		return nil
	}
	return t
}

func (i *issuer) announced() string {
	if at := i.is("announce"); at != "" {
		return at
	}
	return "/.well-known/oauth-protected-resource"
}

func (i *issuer) resource(w http.ResponseWriter, r *http.Request) {
	i.count("prm")
	if i.is("announce") != "" && r.URL.Path != i.is("announce") {
		http.NotFound(w, r)
		return
	}
	doc := map[string]any{"resource": i.api.URL, "authorization_servers": []string{i.server.URL}}
	switch i.is("prm") {
	case "none":
		http.NotFound(w, r)
		return
	case "other_issuer":
		doc["authorization_servers"] = []string{"https://id.other.example"}
	case "other_resource":
		doc["resource"] = "https://api.other.example"
	}
	answer(w, 200, doc)
}

// sample is the sample API: notes, and keys/rotate that asks for proof.
func (i *issuer) sample(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		i.count("api_token")
	}
	if i.is("prm") == "none" && i.is("announce") == "" && r.Header.Get("Authorization") == "" {
		answer(w, 200, map[string]any{"public": true})
		return
	}
	t := i.bearer(w, r, i.api.URL, i.api.URL)
	if t == nil {
		return
	}
	w.Header().Set("Countersign-Ref", "7F3A9C")
	switch r.Method + " " + r.URL.Path {
	case "GET /notes":
		answer(w, 200, map[string]any{"notes": []string{"buy milk"}})
	case "POST /echo":
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = fmt.Fprintf(w, "%s %s ", r.Header.Get("X-One"), r.Header.Get("Content-Type"))
		_, _ = io.Copy(w, r.Body)
	case "POST /keys/rotate":
		i.mu.Lock()
		i.idem = append(i.idem, r.Header.Get("Idempotency-Key"))
		i.mu.Unlock()
		fresh := time.Since(t.AuthTime.Time()) < 5*time.Minute
		missing := !slices.Contains(strings.Fields(t.Scope), "keys:rotate")
		if t.ACR != "phr" || !fresh || missing {
			c := `DPoP error="insufficient_user_authentication", error_description="This needs a recent phishing-resistant sign-in", acr_values="phr phrh", max_age="300"`
			if missing {
				c += `, scope="keys:rotate"`
			}
			w.Header().Set("WWW-Authenticate", c+`, resource_metadata="`+i.api.URL+`/.well-known/oauth-protected-resource"`)
			answer(w, 401, map[string]string{})
			return
		}
		answer(w, 200, map[string]any{"key": "rotated"})
	case "GET /forbidden":
		w.Header().Set("WWW-Authenticate", `DPoP error="access_denied", error_description="Not for you"`)
		answer(w, 403, map[string]string{})
	case "GET /away":
		http.Redirect(w, r, "http://127.0.0.1:1/steal", http.StatusFound)
	default:
		answer(w, 404, map[string]string{})
	}
}

// v1 is the JSON API.
func (i *issuer) v1(w http.ResponseWriter, r *http.Request) {
	t := i.bearer(w, r, i.server.URL, i.server.URL+"/v1")
	if t == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1")
	noun, id, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	id, verb, _ := strings.Cut(id, "/")
	switch {
	case r.Method+" "+path == "GET /me":
		answer(w, 200, map[string]any{"name": "Dana", "username": "dana"})
	case r.Method+" "+path == "GET /people":
		page := map[string]any{"items": i.people}
		if r.URL.Query().Get("after") == "" {
			page["next"] = "usr_1"
		} else {
			page["items"] = []map[string]any{{"id": "usr_2", "name": "Sam\x1b[31m", "username": "sam", "disabled": true}}
		}
		answer(w, 200, page)
	case r.Method == "POST" && path == "/invitations":
		var in map[string]any
		_ = json.NewDecoder(r.Body).Decode(&in)
		if in["name"] == "Taken" {
			w.Header().Set("Content-Type", "application/problem+json")
			answer(w, 409, map[string]any{"title": "Conflict", "code": "username_taken", "detail": "That username is taken.", "hint": "choose another", "ref": "REF1"})
			return
		}
		answer(w, 201, map[string]any{"id": "inv_1", "url": i.server.URL + "/join#cs_invite_x", "expires_at": time.Now().Add(72 * time.Hour)})
	case noun == "reviews", noun == "explanations":
		i.reviews(w, r, noun, id, verb)
	case noun == "recoveries", verb == "recoveries", verb == "temporary-passes":
		i.recovery(w, r, id, verb)
	case r.Method == "POST" && path == "/people":
		var in map[string]any
		_ = json.NewDecoder(r.Body).Decode(&in)
		i.counts["import"]++
		switch {
		case in["username"] == "taken":
			w.Header().Set("Content-Type", "application/problem+json")
			answer(w, 409, map[string]any{"code": "username_taken", "detail": "That user name is taken."})
		case in["password_hash"] == nil:
			w.Header().Set("Content-Type", "application/problem+json")
			answer(w, 422, map[string]any{"code": "password_hash_invalid", "detail": "That is no password hash."})
		default:
			answer(w, 201, map[string]any{"id": "usr_9"})
		}
	case r.Method == "GET" && path == "/factors":
		list := []map[string]any{{"id": "cred_1", "kind": "passkey", "name": "Laptop\x1b[31m", "created_at": time.Now(), "probation_until": time.Now().Add(5 * time.Hour)}}
		if r.URL.Query().Get("person") == "usr_2" {
			list = []map[string]any{{"id": "cred_2", "kind": "totp", "name": "Phone", "created_at": time.Now()}}
		}
		answer(w, 200, map[string]any{"items": list})
	case path == "/factor-kinds":
		answer(w, 200, map[string]any{"items": []map[string]any{{"kind": "password", "allowed": i.allowed["password"]}, {"kind": "totp", "allowed": i.allowed["totp"]}}})
	case noun == "factor-kinds" && r.Method == "PUT":
		i.counts[noun+"_"+id+"_"]++
		var in struct{ Allowed bool }
		_ = json.NewDecoder(r.Body).Decode(&in)
		i.allowed[id] = in.Allowed
		answer(w, 200, map[string]any{"kind": id, "allowed": in.Allowed})
	case path == "/devices":
		i.devices(w, r, "", "")
	case noun == "people" && strings.HasPrefix(verb, "devices"):
		i.devices(w, r, id, strings.TrimPrefix(verb, "devices"))
	case noun == "people" && r.Method == "DELETE":
		i.counts[noun+"_"+id+"_"+strings.ReplaceAll(verb, "/", "_")+r.URL.RawQuery]++
		w.WriteHeader(204)
	case noun == "people" && r.Method == "POST", noun == "sessions" && r.Method == "POST":
		i.counts[noun+"_"+verb+"_"+id]++
		w.WriteHeader(204)
	case path == "/sessions":
		answer(w, 200, map[string]any{"items": []map[string]any{{"id": "ses_1", "device": "Firefox on Linux", "acr": "phr", "current": true}}})
	case noun == "policies" && i.ruled(w, r, id, verb):
	case noun == "publications":
		i.publication(w, r, id)
	case noun == "policies":
		i.policy(w, r, id)
	case noun == "rollouts":
		i.rollout(w, r, id, verb)
	case noun == "decisions":
		i.decided(w, r)
	case noun == "people" && r.Method == "GET" && id == "usr_1":
		answer(w, 200, map[string]any{"id": id, "name": "Dana"})
	case noun == "webhooks" && r.Method == "POST" && verb == "secret":
		i.counts["rotated_"+id]++
		answer(w, 200, map[string]any{"id": id, "secret": "whsec_TOLDAGAIN"})
	case noun == "webhooks" && r.Method == "POST" && verb != "", noun == "deliveries" && r.Method != "GET", noun == "webhooks" && r.Method == "DELETE":
		i.counts[noun+"_"+verb+"_"+id]++
		w.WriteHeader(204)
	case path == "/deliveries":
		answer(w, 200, map[string]any{"items": []map[string]any{{"id": "dlv_1", "channel": "mail", "record": "rec_1", "person": "usr_1", "why": "the mail relay refused it: 550", "made_at": time.Now().Add(-time.Hour), "tries": 3}}})
	case path == "/alerts":
		answer(w, 200, map[string]any{"items": []map[string]any{{"name": "disk_headroom", "severity": "critical", "title": "The disk is nearly full", "next": "Make room.", "raised_at": time.Now().Add(-time.Hour)}}})
	case path == "/leaks":
		var in map[string]any
		_ = json.NewDecoder(r.Body).Decode(&in)
		if in["secret"] != "cs_secret_FOUND" {
			answer(w, 200, map[string]any{"known": false})
			return
		}
		i.counts["leaks"]++
		answer(w, 200, map[string]any{"known": true, "what": "the secret of a client", "next": "Rotate it.", "record": "rec_9"})
	case strings.HasPrefix(noun, "client-") || path == "/clients" && r.Method == "GET" || noun == "clients" && verb == "" && r.Method == "DELETE":
		i.unregistered(w, r, noun)
	case noun == "clients" && strings.HasPrefix(verb, "secrets"):
		i.secrets(w, r, strings.TrimPrefix(verb, "secrets/"))
	case noun == "trusted-issuers" && strings.HasPrefix(verb, "subjects"):
		i.subjects(w, r, strings.TrimPrefix(verb, "subjects/"))
	case noun == "trusted-issuers" && r.Method == "DELETE":
		i.counts["untrusted_"+r.Header.Get("If-Match")]++
		w.WriteHeader(204)
	case noun == "clients" || noun == "resources" || noun == "webhooks" || noun == "trusted-issuers":
		i.object(w, r, noun, id)
	default:
		answer(w, 404, map[string]any{"detail": "No such thing."})
	}
}

// secrets answers what the server answers about a client's secrets.
func (i *issuer) secrets(w http.ResponseWriter, r *http.Request, name string) {
	newest := map[string]any{"name": "ba7816bf8f01", "made_at": time.Now()}
	switch r.Method {
	case "GET":
		answer(w, 200, map[string]any{"items": []map[string]any{newest, {"name": "9f86d081884c", "ends_at": time.Date(2099, 6, 1, 0, 0, 0, 0, time.UTC)}}})
	case "POST":
		var in struct{ Overlap int64 }
		_ = json.NewDecoder(r.Body).Decode(&in)
		i.counts[fmt.Sprintf("secret_%d", in.Overlap)]++
		newest["client_secret"] = "cs_secret_TOLDAGAIN"
		answer(w, 201, newest)
	case "DELETE":
		i.counts["retired_"+name]++
		w.WriteHeader(204)
	}
}

// recovery answers what the server answers about recoveries and passes.
func (i *issuer) recovery(w http.ResponseWriter, r *http.Request, id, verb string) {
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	start := time.Now().Add(-time.Hour)
	v := map[string]any{
		"id": "rcv_1", "username": "sam", "method": "people", "state": "open", "confirmed": []string{"usr_1"}, "needed": 2, "started_at": start,
		"expires_at": start.Add(7 * 24 * time.Hour), "cancel_url": i.server.URL + "/recover/cancel#cs_cancel_x",
	}
	i.counts["recovery_"+verb+"_"+id]++
	switch {
	case r.Method == "GET":
		answer(w, 200, map[string]any{"items": []map[string]any{v, {"id": "rcv_2", "username": "mira", "method": "code", "state": "open", "started_at": start, "ready_at": start.Add(24 * time.Hour), "expires_at": start.Add(48 * time.Hour)}}})
	case in["code"] == "WRONG":
		w.Header().Set("Content-Type", "application/problem+json")
		answer(w, 400, map[string]any{"code": "claim_wrong", "detail": "That isn't the code of this recovery.", "hint": "Let the person read it to you once more.", "ref": "REF2"})
	case verb == "confirm":
		v["confirmed"], v["ready_at"] = []string{"usr_1", "usr_3"}, start
		answer(w, 200, v)
	case verb == "cancel":
		v["state"] = "cancelled"
		answer(w, 200, v)
	case verb == "temporary-passes":
		v["method"], v["pass"], v["enter_url"], v["lasts_hours"], v["expires_at"] = "pass", "7Q4K-M2PX", i.server.URL+"/recover/pass", in["lasts_hours"], time.Now().Add(time.Hour)
		answer(w, 201, v)
	default:
		answer(w, 201, v)
	}
}

// object lists, reads, makes and replaces clients and resources.
func (i *issuer) object(w http.ResponseWriter, r *http.Request, noun, id string) {
	key := map[string]string{"clients": "client_id", "resources": "id", "webhooks": "id", "trusted-issuers": "id"}[noun]
	at := slices.IndexFunc(i.objects[noun], func(o map[string]any) bool { return o[key] == id })
	tag := func(o map[string]any) string { return fmt.Sprintf("%q", fmt.Sprint(o["version"])) }
	switch {
	case id == "" && r.Method == "GET":
		answer(w, 200, map[string]any{"items": i.objects[noun]})
	case id == "" && r.Method == "POST":
		o := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&o)
		for _, s := range listOf(o["servers"]) {
			if !slices.ContainsFunc(i.objects["clients"], func(c map[string]any) bool { return c["client_id"] == s }) {
				answer(w, 422, map[string]any{"detail": "Unknown server.", "code": "unknown_client"})
				return
			}
		}
		o["version"] = 1.0
		o["id"] = fmt.Sprintf("%s_%d", noun[:3], len(i.objects[noun])+1)
		o["created_at"] = "2026-01-01T00:00:00Z"
		i.objects[noun] = append(i.objects[noun], o)
		out := map[string]any{"id": o["id"]}
		if m, _ := o["auth_method"].(string); strings.HasPrefix(m, "client_secret") {
			out["client_secret"] = "cs_secret_TOLDONCE"
		}
		if noun == "webhooks" {
			out["secret"] = "whsec_TOLDONCE"
		}
		i.counts["made_"+noun]++
		answer(w, 201, out)
	case at < 0:
		answer(w, 404, map[string]any{"detail": "No such thing."})
	case r.Method == "GET":
		w.Header().Set("ETag", tag(i.objects[noun][at]))
		answer(w, 200, i.objects[noun][at])
	case r.Method == "PUT":
		o := i.objects[noun][at]
		if r.Header.Get("If-Match") != tag(o) || i.set["raced"] != "" {
			answer(w, 412, map[string]any{"detail": "It was changed meanwhile."})
			return
		}
		next := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&next)
		if next["created_at"] != nil || next["version"] != nil {
			answer(w, 422, map[string]any{"detail": "Read-only member."})
			return
		}
		next["version"], next["id"], next["created_at"] = o["version"].(float64)+1, o["id"], o["created_at"]
		i.objects[noun][at] = next
		i.counts["put_"+noun]++
		out := maps.Clone(next)
		if m, _ := next["auth_method"].(string); strings.HasPrefix(m, "client_secret") && o["auth_method"] == "none" {
			out["client_secret"] = "cs_secret_TOLDLATER"
		}
		answer(w, 200, out)
	}
}

func listOf(v any) (out []string) {
	list, _ := v.([]any)
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// decided gives three refreshes of one person, within a few minutes and then an
// hour later, and one that an earlier release recorded; two pages.
func (i *issuer) decided(w http.ResponseWriter, r *http.Request) {
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	facts := []replay.Facts{
		{Action: policy.TokenRefresh, Kind: policy.KindPerson, Outcome: "allow", Seen: &replay.Shared{}},
		{Action: policy.TokenRefresh, Kind: policy.KindPerson, Outcome: "allow"},
	}
	item := func(of int, after time.Duration) replay.DecisionItem {
		d := replay.Decision{At: at.Add(after), Who: "usr_1", Session: "ses_1"}
		if of == 0 {
			d.Saw = &replay.World{Ages: []int64{3600_000, 3600_000, 3600_000}}
		}
		return replay.DecisionItem{Decision: d, Of: of}
	}
	page := replay.Decisions{Facts: facts, Read: 2, At: &at}
	switch {
	case i.set["decisions"] == "denied":
		w.Header().Set("Content-Type", "application/problem+json")
		answer(w, 403, map[string]any{"code": "denied", "detail": "This is not allowed."})
		return
	case i.set["decisions"] == "broken":
		page.Items = []replay.DecisionItem{{Of: 2}}
	case r.URL.Query().Get("after") == "":
		page.Items, page.Next = []replay.DecisionItem{item(1, 0), item(0, time.Minute)}, "rec_1"
	default:
		page.Items = []replay.DecisionItem{item(0, 2*time.Minute), item(0, time.Hour)}
	}
	answer(w, 200, page)
}

// policy lists, reads, publishes and puts back versions of the policies.
func (i *issuer) policy(w http.ResponseWriter, r *http.Request, id string) {
	if i.policies == nil {
		src := policy.Default()
		i.policies = []map[string]any{{"version": 0, "hash": src.Hash(), "files": src.Files}}
	}
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	last := i.policies[len(i.policies)-1]
	switch n, err := strconv.Atoi(id); {
	case r.Method == "POST" && in["after"] != float64(len(i.policies)-1):
		answer(w, 409, map[string]any{"code": "policy_moved", "detail": "Somebody else has just published another version."})
	case r.Method == "POST" && id == "" && i.waits(w, r, in):
	case r.Method == "POST":
		v := map[string]any{"version": len(i.policies), "published_by": "usr_1", "published_at": "2026-11-02T09:00:00Z", "note": in["note"]}
		if id == "rollback" {
			of := i.policies[int(in["to"].(float64))]
			v["exceptions"], v["floors"] = of["exceptions"], of["floors"]
			v["restores"], v["files"], v["schema"], v["hash"] = in["to"], of["files"], of["schema"], of["hash"]
		} else {
			v["files"], v["schema"], v["hash"] = in["files"], in["schema"], in["hash"]
			v["exceptions"], v["floors"] = in["exceptions"], in["floors"]
			v["publication"], v["signed_by"], v["carried_out_by"] = "pub_1", "usr_1", i.caller(r)
		}
		i.policies = append(i.policies, v)
		answer(w, 201, v)
	case id == "" && len(i.policies) == 1:
		answer(w, 200, map[string]any{"items": []any{}})
	case id == "" && r.URL.Query().Get("limit") == "1":
		answer(w, 200, map[string]any{"items": []any{last}})
	case id == "":
		list := slices.Clone(i.policies[1:])
		slices.Reverse(list)
		answer(w, 200, map[string]any{"items": list})
	case err == nil && n < len(i.policies):
		answer(w, 200, i.policies[n])
	default:
		answer(w, 404, map[string]any{"detail": "There is no such policy_version.", "code": "policy_version_not_found"})
	}
}
