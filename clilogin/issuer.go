package clilogin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Sandbox is what a running sandbox says of itself in its state file.
type Sandbox struct {
	Issuer string `json:"issuer"`
	API    string `json:"api"` // of the sample API
}

// DefaultIssuer is tried when nothing else says where the server is.
const DefaultIssuer = "http://localhost:8787"

// FindSandbox reads $XDG_STATE_HOME/countersign/sandbox.json (~/.local/state
// without it). The error is fs.ErrNotExist if there is none, and has code
// CodeIssuerUnknown if it is not to be believed: it is open to others, or
// it cannot be read.
func FindSandbox() (s Sandbox, err error) {
	dir, err := base("XDG_STATE_HOME", func() (string, error) {
		home, err := os.UserHomeDir()
		return filepath.Join(home, ".local", "state"), err
	})
	if err != nil {
		return Sandbox{}, err
	}
	path := filepath.Join(dir, "countersign", "sandbox.json")
	info, err := os.Stat(path)
	if err != nil {
		return Sandbox{}, err
	}
	if open(info.Mode()) {
		return Sandbox{}, fault(problem.Invalid, CodeIssuerUnknown, path+" is open to other users, so what it says of the sandbox is not believed.").
			WithHint("chmod 600 " + path)
	}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &s) != nil || s.Issuer == "" {
		return Sandbox{}, fault(problem.Invalid, CodeIssuerUnknown, path+" does not say where the sandbox is.").Because(err).
			WithHint("start the sandbox again, or name the server")
	}
	return s, nil
}

// FindIssuer says at which server to sign in: the one that is named, the one
// that the profile remembers (a sandbox that has moved is followed), a sandbox
// on this computer, or whatever answers at DefaultIssuer. The error has code
// CodeIssuerUnknown.
func (p *Profile) FindIssuer(ctx context.Context, named string) (string, error) {
	if named != "" {
		return checkIssuer(named)
	}
	sandbox, unknown := FindSandbox()
	if c, err := p.Credential(); err == nil {
		u, err := url.Parse(c.Issuer)
		if err != nil || u.Scheme == "https" || unknown != nil {
			return c.Issuer, nil
		}
	}
	switch {
	case unknown == nil:
		return checkIssuer(sandbox.Issuer)
	case !errors.Is(unknown, fs.ErrNotExist): // another server than the one that is meant could answer
		return "", unknown
	}
	probe, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := countersign.Discover(probe, DefaultIssuer, p.HTTP); err == nil {
		return DefaultIssuer, nil
	}
	return "", fault(problem.Invalid, CodeIssuerUnknown, "Which server? Nothing answers at "+DefaultIssuer+".").
		WithHint(p.Store.app + " login https://id.example.com")
}

// checkIssuer takes an issuer as a person types it: a name alone is https, and
// a slash at the end does not count.
func checkIssuer(s string) (string, error) {
	bad := fault(problem.Invalid, CodeIssuerUnknown, "An issuer is an https address without a path, for instance https://id.example.com (http only on this computer).")
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" {
		if u, err = url.Parse("http://" + s); err != nil {
			return "", bad
		}
		if !safe(u) { // not this computer
			u.Scheme = "https"
		}
	}
	if u.Path == "/" {
		u.Path = ""
	}
	if !safe(u) || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", bad
	}
	return u.Scheme + "://" + u.Host, nil
}

// Check asks the server whether the profile's sign-in still stands: it fetches
// a token if there is none, and reads GET /v1/me.
func (p *Profile) Check(ctx context.Context) (Answer, error) {
	c, err := p.usableCredential()
	if err != nil {
		return Answer{}, err
	}
	return p.Do(ctx, Call{Method: http.MethodGet, URL: c.Issuer + "/v1/me"})
}

// Identify asks the server what it calls the person and remembers it, for
// display. Tokens carry no names.
func (p *Profile) Identify(ctx context.Context) error {
	got, err := p.Check(ctx)
	if err != nil {
		return err
	}
	defer got.Response.Body.Close()
	var me struct {
		Name     string `json:"name"`
		Username string `json:"username"`
	}
	body, err := io.ReadAll(io.LimitReader(got.Response.Body, 1<<20))
	if err != nil || got.Response.StatusCode != http.StatusOK || json.Unmarshal(body, &me) != nil {
		return fault(problem.Unavailable, "person_unknown", "The server did not say who this is.").Because(err)
	}
	release, err := p.Store.lock(ctx, p.Name, lockWrite)
	if err != nil {
		return err
	}
	defer release()
	c, err := p.usableCredential()
	if err != nil || c.Name == me.Name && c.Username == me.Username {
		return err
	}
	c.Name, c.Username = me.Name, me.Username
	return p.Store.write(p.Name, c, c.Generation)
}
