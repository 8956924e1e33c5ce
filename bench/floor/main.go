// Command floor is the least that a token endpoint can cost in Go: net/http, a
// parsed form, the SHA-256 of the client's secret, one ES256 signature, and,
// with -durable, one row in SQLite that is committed before the answer. The
// benchmark quotes every other server as a ratio to it. It is no authorization
// server: one client, no errors worth reading, state in memory.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to listen")
	durable := flag.String("durable", "", "SQLite file for one row per token; none: memory only")
	secretHash := flag.String("secret-sha256", "", "hexadecimal SHA-256 of the client's secret")
	clientKey := flag.String("client-key", "", "base64 of the client's PKIX public key, for private_key_jwt")
	flag.Parse()
	f, err := newFloor(*durable, *secretHash, *clientKey)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr()) // what starts it waits for this line
	go func() {           // and takes it down by closing its input
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	srv := &http.Server{Handler: f.routes(), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(srv.Serve(l))
}

type floor struct {
	key        *ecdsa.PrivateKey
	secretHash []byte
	clientKey  *ecdsa.PublicKey
	rows       *rows // nil: memory only

	mu      sync.Mutex
	refresh map[[32]byte]bool
	issued  map[[32]byte]string // token hash → introspection answer, memory only
	order   [][32]byte          // of issued, a ring of the latest
	oldest  int
}

// kept is how many tokens the memory holds for introspection.
const kept = 20_000

func newFloor(durable, secretHash, clientKey string) (*floor, error) {
	f := &floor{refresh: map[[32]byte]bool{}, issued: map[[32]byte]string{}}
	var err error
	if f.secretHash, err = hex.DecodeString(secretHash); err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(clientKey)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	var ok bool
	if f.clientKey, ok = public.(*ecdsa.PublicKey); !ok {
		return nil, errors.New("the client's key is not ECDSA")
	}
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if durable != "" {
		f.rows, err = openRows(durable)
	}
	return f, err
}

func (f *floor) routes() http.Handler {
	static := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = []string{"application/json"}
			io.WriteString(w, body)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", f.token)
	mux.HandleFunc("POST /introspect", f.introspect)
	mux.HandleFunc("GET /userinfo", f.userinfo)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", static(`{"issuer":"floor","filler":"`+strings.Repeat("x", 1500)+`"}`))
	mux.HandleFunc("GET /jwks", static(`{"keys":[{"filler":"`+strings.Repeat("x", 400)+`"}]}`))
	return mux
}

// token answers client credentials and refresh; a DPoP proof binds the token.
func (f *floor) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || !f.authenticated(r) {
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	jti, next := rand.Text(), ""
	claims := map[string]any{"iss": "floor", "sub": "bench", "aud": "api", "jti": jti, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute * 5).Unix()}
	if proof := r.Header.Get("DPoP"); proof != "" {
		thumbprint, ok := f.proof(proof)
		if !ok {
			http.Error(w, `{"error":"invalid_dpop_proof"}`, http.StatusBadRequest)
			return
		}
		claims["cnf"] = map[string]string{"jkt": thumbprint}
	}
	if old := r.PostForm.Get("refresh_token"); old != "" || r.PostForm.Has("refresh") {
		next = rand.Text()
		if !f.rotate(old, next) {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
	}
	token := f.sign(claims)
	answer, _ := json.Marshal(map[string]any{"active": true, "sub": "bench", "aud": "api", "jti": jti, "exp": claims["exp"]})
	if f.rows != nil {
		if err := f.rows.write(sha256.Sum256([]byte(token)), string(answer)); err != nil {
			http.Error(w, `{"error":"server_error"}`, http.StatusInternalServerError)
			return
		}
	} else {
		f.remember(sha256.Sum256([]byte(token)), string(answer))
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.Header()["Cache-Control"] = []string{"no-store"}
	json.NewEncoder(w).Encode(struct {
		AccessToken  string `json:"access_token"`
		TokenType    string `json:"token_type"`
		ExpiresIn    int    `json:"expires_in"`
		RefreshToken string `json:"refresh_token,omitempty"`
	}{token, "Bearer", 300, next})
}

// remember keeps an answer for introspection, and forgets the oldest.
func (f *floor) remember(hash [32]byte, answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.order) < kept {
		f.order = append(f.order, hash)
	} else {
		delete(f.issued, f.order[f.oldest])
		f.order[f.oldest] = hash
		f.oldest = (f.oldest + 1) % kept
	}
	f.issued[hash] = answer
}

// authenticated checks the client's secret or its assertion.
func (f *floor) authenticated(r *http.Request) bool {
	if assertion := r.PostForm.Get("client_assertion"); assertion != "" {
		_, ok := verify(assertion, f.clientKey)
		return ok
	}
	_, secret, ok := r.BasicAuth()
	hash := sha256.Sum256([]byte(secret))
	return ok && subtle.ConstantTimeCompare(hash[:], f.secretHash) == 1
}

func (f *floor) introspect(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || !f.authenticated(r) {
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	answer := f.known(r.Context(), r.PostForm.Get("token"))
	if answer == "" {
		answer = `{"active":false}`
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	io.WriteString(w, answer)
}

// userinfo tells the bearer of a token the same as introspection tells.
func (f *floor) userinfo(w http.ResponseWriter, r *http.Request) {
	answer := f.known(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if answer == "" {
		http.Error(w, `{"error":"invalid_token"}`, http.StatusUnauthorized)
		return
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	io.WriteString(w, answer)
}

// known is what is kept of a token, "" if nothing is.
func (f *floor) known(ctx context.Context, token string) string {
	hash := sha256.Sum256([]byte(token))
	if f.rows != nil {
		return f.rows.read(ctx, hash)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issued[hash]
}

// rotate spends a refresh token for the next one; "" stands for a first one.
func (f *floor) rotate(old, next string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	hash := sha256.Sum256([]byte(old))
	if old != "" && !f.refresh[hash] {
		return false
	}
	delete(f.refresh, hash)
	f.refresh[sha256.Sum256([]byte(next))] = true
	return true
}

var b64 = base64.RawURLEncoding

// sign makes a JWT (RFC 7515 compact, ES256).
func (f *floor) sign(claims map[string]any) string {
	body, _ := json.Marshal(claims)
	signed := b64.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"floor"}`)) + "." + b64.EncodeToString(body)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, f.key, hash[:])
	if err != nil {
		panic(err) // no randomness
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + b64.EncodeToString(signature[:])
}

// verify checks an ES256 signature and the lifetime, and returns the header.
func verify(token string, key *ecdsa.PublicKey) (header []byte, ok bool) {
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return nil, false
	}
	header, err1 := b64.DecodeString(part[0])
	body, err2 := b64.DecodeString(part[1])
	signature, err3 := b64.DecodeString(part[2])
	if errors.Join(err1, err2, err3) != nil || len(signature) != 64 {
		return nil, false
	}
	var claims struct {
		IssuedAt int64 `json:"iat"`
	}
	if json.Unmarshal(body, &claims) != nil || time.Since(time.Unix(claims.IssuedAt, 0)).Abs() > time.Minute {
		return nil, false
	}
	if key == nil {
		if key = embedded(header); key == nil {
			return nil, false
		}
	}
	hash := sha256.Sum256([]byte(part[0] + "." + part[1]))
	return header, ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

// embedded reads the P-256 key that a DPoP proof carries; nil if there is none.
func embedded(header []byte) *ecdsa.PublicKey {
	var h struct {
		JWK struct{ X, Y string }
	}
	if json.Unmarshal(header, &h) != nil {
		return nil
	}
	x, err1 := b64.DecodeString(h.JWK.X)
	y, err2 := b64.DecodeString(h.JWK.Y)
	if err1 != nil || err2 != nil {
		return nil
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil
	}
	return key
}

// proof checks a DPoP proof and returns its key's thumbprint (RFC 7638).
func (f *floor) proof(token string) (thumbprint string, ok bool) {
	header, ok := verify(token, nil)
	if !ok {
		return "", false
	}
	var h struct {
		JWK struct{ X, Y string }
	}
	if json.Unmarshal(header, &h) != nil {
		return "", false
	}
	hash := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + h.JWK.X + `","y":"` + h.JWK.Y + `"}`))
	return b64.EncodeToString(hash[:]), true
}
