package clilogin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/problem"
)

// resourceMetadata is what a resource says of itself (RFC 9728 section 2), as
// far as it is needed here.
type resourceMetadata struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers"`
}

// safe reports whether tokens may be sent there: https, or http on loopback.
func safe(u *url.URL) bool {
	if u.User != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "http" {
		ip := net.ParseIP(u.Hostname())
		return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	}
	return u.Scheme == "https"
}

// origin is scheme, host and port, spelled one way.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// covers reports whether the resource speaks for the address: the same origin,
// at or below its path. Dot segments belong to nobody's path.
func (m resourceMetadata) covers(u *url.URL) bool {
	r, err := url.Parse(m.Resource)
	if err != nil || r.Fragment != "" || !safe(r) || origin(r) != origin(u) {
		return false
	}
	base, path := strings.TrimSuffix(r.EscapedPath(), "/"), u.EscapedPath()
	if base == "" {
		return true
	}
	for _, s := range strings.Split(strings.ToLower(path), "/") {
		if s = strings.ReplaceAll(s, "%2e", "."); s == "." || s == ".." {
			return false
		}
	}
	return path == base || strings.HasPrefix(path, base+"/")
}

// audience finds out for which audience a token for the address must be, from
// the cache or from the resource itself: at the root, then with the path put in
// (RFC 9728 section 3). The error is errUnannounced if it says nothing.
func (p *Profile) audience(ctx context.Context, c *Credential, u *url.URL) (string, error) {
	if !safe(u) {
		return "", fault(problem.Invalid, CodeResourceRefused, "A token is sent only over https, or to this computer.")
	}
	own := resourceMetadata{Resource: c.Issuer + "/v1", Servers: []string{c.Issuer}}
	if own.covers(u) {
		return own.Resource, nil
	}
	if m, ok := p.recall(u); ok {
		return p.judge(c, m)
	}
	root := url.URL{Scheme: u.Scheme, Host: u.Host, Path: wellKnownResource}
	tries := []url.URL{root}
	if path := strings.TrimSuffix(u.Path, "/"); path != "" {
		inserted := root
		inserted.Path += path
		tries = append(tries, inserted)
	}
	for _, at := range tries {
		m, err := p.fetchResource(ctx, at.String())
		if err != nil {
			return "", err
		}
		if m != nil && m.covers(u) {
			return p.judge(c, *m)
		}
	}
	return "", errUnannounced
}

const wellKnownResource = "/.well-known/oauth-protected-resource"

// errUnannounced: the resource does not say who protects it.
var errUnannounced = errors.New("no protected-resource metadata")

// announced reads the document that a refusal names. It must be of the same
// origin and speak for the address.
func (p *Profile) announced(ctx context.Context, c *Credential, u *url.URL, at string) (string, error) {
	doc, err := url.Parse(at)
	if err != nil || !safe(doc) || origin(doc) != origin(u) {
		return "", fault(problem.Denied, CodeResourceRefused, "The resource names a description of itself elsewhere; no token was sent.")
	}
	m, err := p.fetchResource(ctx, at)
	if err != nil {
		return "", err
	}
	if m == nil || !m.covers(u) {
		f := fault(problem.Denied, CodeResourceRefused, "The resource's description of itself is for another address; no token was sent.")
		if m != nil {
			f = f.WithHint("call it by the name it has for itself: " + m.Resource)
		}
		return "", f
	}
	return p.judge(c, *m)
}

// judge demands that the resource trusts the server that we are signed in at;
// only then is it remembered.
func (p *Profile) judge(c *Credential, m resourceMetadata) (string, error) {
	if slices.Contains(m.Servers, c.Issuer) {
		p.remember(m)
		return m.Resource, nil
	}
	f := fault(problem.Denied, CodeResourceRefused, fmt.Sprintf("%s does not take sign-ins from %s; no token was sent.", m.Resource, c.Issuer))
	if len(m.Servers) > 0 {
		f = f.WithHint(p.Store.app + " login " + m.Servers[0] + " --profile other")
	}
	return "", f
}

// fetchResource reads one document; nil if there is none.
func (p *Profile) fetchResource(ctx context.Context, at string) (*resourceMetadata, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, fault(problem.Invalid, CodeInvalid, "That is not an address.").Because(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := p.direct(10 * time.Second).Do(req)
	if err != nil {
		return nil, network(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<18))
	if err != nil {
		return nil, network(err)
	}
	var m resourceMetadata
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &m) != nil || m.Resource == "" {
		return nil, nil
	}
	return &m, nil
}

// direct is a client that follows no redirect.
func (p *Profile) direct(limit time.Duration) *http.Client {
	c := &http.Client{Timeout: limit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if p.HTTP != nil {
		c.Transport = p.HTTP.Transport
	}
	return c
}

// resourceCache is a file of what resources said, for an hour. It may be lost.
type resourceCache struct {
	Version int           `json:"version"`
	Entries []cachedEntry `json:"entries"`
}

type cachedEntry struct {
	resourceMetadata
	At time.Time `json:"at"`
}

const (
	resourceCacheLife = time.Hour
	maxCached         = 64
)

func (p *Profile) cachePath() string { return filepath.Join(p.Store.cache, "resources.json") }

func (p *Profile) readCache() (c resourceCache) {
	text, err := os.ReadFile(p.cachePath())
	if err != nil || json.Unmarshal(text, &c) != nil || c.Version != 1 {
		return resourceCache{Version: 1}
	}
	now := p.now()
	c.Entries = slices.DeleteFunc(c.Entries, func(e cachedEntry) bool {
		return now.Before(e.At) || now.After(e.At.Add(resourceCacheLife))
	})
	return c
}

// recall is the cached resource with the longest path that covers the address.
func (p *Profile) recall(u *url.URL) (m resourceMetadata, ok bool) {
	for _, e := range p.readCache().Entries {
		if e.covers(u) && len(e.Resource) > len(m.Resource) {
			m, ok = e.resourceMetadata, true
		}
	}
	return m, ok
}

func (p *Profile) remember(m resourceMetadata) {
	c := p.readCache()
	for _, e := range c.Entries {
		if e.Resource == m.Resource && slices.Equal(e.Servers, m.Servers) {
			return // until it is an hour old
		}
	}
	c.Entries = slices.DeleteFunc(c.Entries, func(e cachedEntry) bool { return e.Resource == m.Resource })
	c.Entries = append(c.Entries, cachedEntry{m, p.now().UTC()})
	if len(c.Entries) > maxCached {
		c.Entries = c.Entries[len(c.Entries)-maxCached:]
	}
	if text, err := json.Marshal(c); err == nil && private(p.Store.cache) == nil {
		_ = file.Replace(p.cachePath(), text, 0o600)
	}
}

// forget drops what was remembered of a resource that did not behave as it said.
func (p *Profile) forget(resource string) {
	c := p.readCache()
	c.Entries = slices.DeleteFunc(c.Entries, func(e cachedEntry) bool { return e.Resource == resource })
	if text, err := json.Marshal(c); err == nil {
		_ = file.Replace(p.cachePath(), text, 0o600)
	}
}
