package countersign_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/countersign-dev/countersign"
)

// issuer starts an authorization server on a real socket.
func issuer() (*countersign.TestIssuer, func()) {
	i := countersign.NewTestIssuer()
	srv := httptest.NewServer(i)
	i.URL = srv.URL
	return i, func() { i.Drop(); srv.CloseClientConnections(); srv.Close() }
}

// A resource server that asks for proof where it matters.
func Example() {
	id, stop := issuer()
	defer stop()
	mux := http.NewServeMux()
	api := httptest.NewServer(mux)
	defer api.Close()

	ctx := context.Background()
	v, err := countersign.New(ctx, countersign.Config{Issuer: id.URL, Audience: api.URL, NoFeed: true})
	if err != nil {
		panic(err)
	}
	defer v.Close()
	v.MountMetadata(mux, countersign.ResourceMetadata{Name: "Notes", Scopes: []string{"notes:read", "keys:rotate"}})
	mux.Handle("GET /notes", v.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "notes of %s", countersign.TokenFrom(r.Context()).Subject)
	}), countersign.RequireScope("notes:read")))
	mux.Handle("POST /keys/rotate", v.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "rotated")
	}), countersign.RequireScope("keys:rotate"), countersign.RequireAssurance("phr"), countersign.RequireFresh(5*time.Minute)))

	// A client with a token for notes only.
	key, _ := countersign.GenerateDPoPKey()
	client := &http.Client{Transport: &countersign.Transport{Resource: api.URL, Key: key, Source: countersign.NewTokenSource(
		countersign.NewMemoryStore(countersign.Credential{
			AccessToken: id.Token(id.Claims(api.URL, key, "notes:read")), TokenType: "DPoP",
			IssuedAt: time.Now(), ExpiresAt: time.Now().Add(5 * time.Minute),
		}), nil)}}
	for _, call := range []string{"GET /notes", "POST /keys/rotate"} {
		method, path, _ := strings.Cut(call, " ")
		req, _ := http.NewRequest(method, api.URL+path, nil)
		resp, err := client.Do(req)
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			fmt.Println(call, "→", resp.StatusCode, string(body))
			continue
		}
		challenges, _ := countersign.ParseChallenge(resp.Header.Values("WWW-Authenticate"))
		fmt.Println(call, "→", resp.StatusCode, challenges[0].Error, challenges[0].Scope)
	}
	// Output:
	// GET /notes → 200 notes of usr_dana
	// POST /keys/rotate → 401 insufficient_user_authentication [keys:rotate]
}

// A client that has the person asked for more proof in the middle of a request.
func ExampleTransport() {
	id, stop := issuer()
	defer stop()
	mux := http.NewServeMux()
	api := httptest.NewServer(mux)
	defer api.Close()
	ctx := context.Background()
	v, err := countersign.New(ctx, countersign.Config{Issuer: id.URL, Audience: api.URL, NoFeed: true})
	if err != nil {
		panic(err)
	}
	defer v.Close()
	mux.Handle("POST /keys/rotate", v.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "rotated")
	}), countersign.RequireScope("keys:rotate"), countersign.RequireAssurance("phrh")))

	key, _ := countersign.GenerateDPoPKey()
	credential := func(acr, scope string) countersign.Credential {
		c := id.Claims(api.URL, key, scope)
		c.ACR = acr
		return countersign.Credential{AccessToken: id.Token(c), TokenType: "DPoP", IssuedAt: time.Now(), ExpiresAt: time.Now().Add(5 * time.Minute)}
	}
	store := countersign.NewMemoryStore(credential("phr", "notes:read"))
	client := &http.Client{Transport: &countersign.Transport{
		Resource: api.URL, Key: key, Source: countersign.NewTokenSource(store, nil),
		StepUp: func(ctx context.Context, c countersign.Challenge) error {
			fmt.Printf("%s: acr %v, scope %v\n", c.Description, c.ACRValues, c.Scope)
			// Here the browser opens; its answer goes into the store.
			_, err := store.Update(ctx, func(cur countersign.Credential) (countersign.Credential, error) {
				next := credential(c.ACRValues[0], strings.Join(c.Scope, " "))
				next.Generation = cur.Generation + 1
				return next, nil
			})
			return err
		},
	}}
	resp, err := client.Post(api.URL+"/keys/rotate", "text/plain", strings.NewReader("please"))
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body))
	// Output:
	// This needs a sign-in with a hardware key: acr [phrh], scope [keys:rotate]
	// 200 rotated
}

// A program that acts as itself.
func ExampleTokenClient_ClientCredentials() {
	id, stop := issuer()
	defer stop()
	ctx := context.Background()
	meta, err := countersign.Discover(ctx, id.URL, nil)
	if err != nil {
		panic(err)
	}
	key, _ := countersign.GenerateDPoPKey()
	c := &countersign.TokenClient{Metadata: meta, Auth: countersign.ClientAuth{ID: "rs", Secret: "s3cret"}, Key: key}
	cred, err := c.ClientCredentials(ctx, "https://api.example.com")
	if err != nil {
		panic(err)
	}
	fmt.Println(cred.TokenType, cred.ExpiresAt.After(time.Now()))
	// Output: DPoP true
}
