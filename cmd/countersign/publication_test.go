package main

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign-dev/countersign/internal/jose"
)

// machine is the subject of the service that the client ci is.
const machine = "svc_ci"

// waits answers 202 to what is handed in until somebody has signed exactly it. Without
// the switch "unsigned" its person signs whatever page the browser opens.
func (i *issuer) waits(w http.ResponseWriter, r *http.Request, in map[string]any) bool {
	plan, _ := json.Marshal(in["waves"])
	for _, p := range i.pubs {
		old, _ := json.Marshal(p["waves"])
		if p["hash"] != in["hash"] || p["after"] != in["after"] || string(old) != string(plan) || p["state"] != unsigned && p["state"] != signed {
			continue
		}
		if p["state"] == signed {
			p["state"] = carriedOut
			i.counts["carried_out_by_"+i.caller(r)]++
			return false
		}
		answer(w, 202, p)
		return true
	}
	id := fmt.Sprintf("pub_%d", len(i.pubs)+1)
	p := map[string]any{
		"id": id, "state": unsigned, "hash": in["hash"], "after": in["after"], "submitted_by": i.caller(r), "submitted_at": time.Now(), "note": in["note"],
		"expires_at": time.Now().Add(24 * time.Hour), "sign_uri": i.server.URL + "/admin/publications/" + id,
	}
	if in["waves"] != nil {
		p["waves"] = in["waves"]
	}
	if i.set["elsewhere"] != "" {
		p["sign_uri"] = "http://evil.example/admin/publications/" + id
	}
	i.pubs = append(i.pubs, p)
	answer(w, 202, p)
	p["files"] = in["files"]
	return true
}

// caller is who a request is of.
func (i *issuer) caller(r *http.Request) string {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	t, err := jose.VerifyAccessToken(token, i.keys, jose.AccessTokenWant{Issuer: i.server.URL, Audiences: []string{i.server.URL + "/v1"}, Now: time.Now()})
	if err == nil && t.Subject == machine {
		return machine
	}
	return "usr_1"
}

// publication lists, reads and withdraws.
func (i *issuer) publication(w http.ResponseWriter, r *http.Request, id string) {
	at := slices.IndexFunc(i.pubs, func(p map[string]any) bool { return p["id"] == id })
	switch {
	case id == "":
		list := slices.Clone(i.pubs)
		slices.Reverse(list)
		answer(w, 200, map[string]any{"items": append([]map[string]any{}, list...)})
	case at < 0:
		answer(w, 404, map[string]any{"code": "publication_not_found", "detail": "There is no such publication."})
	case r.Method == "POST":
		i.pubs[at]["state"] = "withdrawn"
		answer(w, 200, i.pubs[at])
	default:
		i.counts["publication_read"]++
		if n, _ := strconv.Atoi(i.set["away"]); n > 0 {
			i.set["away"] = strconv.Itoa(n - 1)
			answer(w, 503, map[string]any{"code": "busy", "detail": "Busy."})
			return
		}
		if s := i.set["becomes"]; s != "" {
			i.pubs[at]["state"] = s
		}
		answer(w, 200, i.pubs[at])
	}
}

// sign is the page: whoever opens it signs.
func (i *issuer) sign(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.pubs {
		if p["id"] == r.PathValue("id") && p["state"] == unsigned && i.set["unsigned"] == "" {
			p["state"], p["signed_by"] = signed, "usr_1"
			if i.set["puts"] != "" { // and presses the other button
				p["state"], p["version"] = carriedOut, len(i.policies)
				i.policies = append(i.policies, map[string]any{"version": len(i.policies), "hash": p["hash"], "files": p["files"], "signed_by": "usr_1", "carried_out_by": "usr_1"})
			}
		}
	}
	answer(w, 200, map[string]any{})
}

// machine is the service's own grant, where it has shown its key.
func (i *issuer) machine(r *http.Request, jkt string) *flow {
	keys := &jose.JWKSet{Keys: []jose.JWK{{Key: i.service, Algorithm: jose.ES256}}}
	_, err := jose.VerifyClientAssertion(r.PostForm.Get("client_assertion"), keys, jose.ClientAssertionWant{ClientID: "ci", Issuer: i.server.URL, Now: time.Now()})
	if err != nil || r.PostForm.Get("scope") != scopePolicies {
		return nil
	}
	return &flow{jkt: jkt, sub: machine}
}

// servicekey FILE: a private key, which the issuer knows as the client ci's.
func cmdServiceKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	i := of(ts)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.service = key.Public()
}

// A key of another kind is refused where it is read, and not by the server.
func TestClientKey(t *testing.T) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	agreed, _ := ecdh.X25519().GenerateKey(rand.Reader)
	for _, x := range []struct {
		key  any
		good bool
	}{{ed, true}, {p256, true}, {p384, false}, {agreed, false}} {
		der, err := x509.MarshalPKCS8PrivateKey(x.key)
		path := filepath.Join(t.TempDir(), "key.pem")
		if err == nil {
			err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if key, err := clientKey(path); (err == nil) != x.good || err != nil && failureOf(err).exit != exitUsage {
			t.Errorf("%T: %T, %v", x.key, key, err)
		}
	}
}

// signs: somebody signs what was handed in last, in a browser elsewhere.
func cmdSigns(ts *testscript.TestScript, _ bool, _ []string) {
	i := of(ts)
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.pubs) == 0 {
		ts.Fatalf("nothing was handed in")
	}
	p := i.pubs[len(i.pubs)-1]
	p["state"], p["signed_by"] = signed, "usr_2"
}
