package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/clilogin"
)

// The variables by which a pipeline says as which service it acts on policies.
const (
	envIssuer    = "COUNTERSIGN_ISSUER"
	envClient    = "COUNTERSIGN_CLIENT_ID"
	envClientKey = "COUNTERSIGN_CLIENT_KEY"
)

// scopePolicies is all that such a service asks for.
const scopePolicies = "policies"

// serviceTime is how long one request of a service may take.
const serviceTime = 30 * time.Second

// policyAPI is the API as whoever acts on policies: the service that the environment
// names, else the person of the profile.
func (a *app) policyAPI(ctx context.Context) (*api, error) {
	id := os.Getenv(envClient)
	if id == "" {
		return a.api()
	}
	if a.profile != defaultProfile() {
		return nil, usage("--profile is a person's sign-in, and $%s says to act as a service: leave one of them out.", envClient)
	}
	issuer, path := strings.TrimSuffix(os.Getenv(envIssuer), "/"), os.Getenv(envClientKey)
	if issuer == "" || path == "" {
		return nil, usage("As a service, $%s names the server and $%s the file of the private key, beside $%s.", envIssuer, envClientKey, envClient)
	}
	key, err := clientKey(path)
	if err != nil {
		return nil, err
	}
	hc := &http.Client{Timeout: serviceTime}
	if a.debug {
		hc.Transport = &tracer{out: a.err, next: http.DefaultTransport}
	}
	meta, err := countersign.Discover(ctx, issuer, hc)
	if err != nil {
		return nil, notServed(err)
	}
	proof, err := countersign.GenerateDPoPKey()
	if err != nil {
		return nil, err
	}
	base := issuer + "/v1"
	tokens := &countersign.TokenClient{Metadata: meta, Auth: countersign.ClientAuth{ID: id, Key: key}, Key: proof, HTTP: hc, Now: a.now}
	source := countersign.NewTokenSource(countersign.NewMemoryStore(countersign.Credential{}), tokens.CredentialsRenewal(base, scopePolicies))
	return &api{app: a, base: base, service: &http.Client{
		Timeout:   serviceTime,
		Transport: &countersign.Transport{Resource: base, Source: source, Key: proof, Base: hc.Transport, Now: a.now},
	}}, nil
}

// clientKey reads a private key in PEM: PKCS #8, of P-256 or Ed25519.
func clientKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usage("The private key cannot be read: %v.", err)
	}
	bad := usage("%s holds no private key in PEM (PKCS #8, P-256 or Ed25519).", path)
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, bad
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, bad
	}
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			return k, nil
		}
	}
	return nil, bad
}

// send sends a call as the service.
func (x *api) send(ctx context.Context, call clilogin.Call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, call.Method, call.URL, strings.NewReader(string(call.Body)))
	if err != nil {
		return nil, err
	}
	req.Header = call.Header
	resp, err := x.service.Do(req)
	if err != nil {
		return nil, notServed(err)
	}
	return resp, nil
}

// notServed says of a service that got no answer, or no token, why.
func notServed(err error) error {
	var refused *countersign.ResponseError
	var away *url.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &refused) && refused.Status < 500:
		message := refused.Description
		if message == "" {
			message = "The server refused this client: " + refused.Code
		}
		return &failure{exit: exitDenied, code: refused.Code, message: sentence(message), ref: refused.Ref, fix: "register the key and the scope " + scopePolicies + " for $" + envClient + ": docs/operations.md"}
	case errors.As(err, &refused), errors.As(err, &away):
		return &failure{exit: exitUnreachable, code: clilogin.CodeUnreachable, message: sentence(err.Error())}
	}
	return err
}
