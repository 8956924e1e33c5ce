package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Egress is the guard on outbound calls (security invariant 7). Destinations
// are public addresses over https, or those allowed by name; the address that
// was judged is the one that is connected to; redirects are not followed;
// size and time are bounded; nothing is read from the environment.
type Egress struct {
	// Allow are destinations, host or host:port, that may have any address
	// and may be spoken to without TLS.
	Allow    []string
	MaxBytes int64          // of a body; 0: 1 MiB
	Timeout  time.Duration  // of a whole call; 0: 5 s
	Proxy    *url.URL       // nil: none. It then resolves names, and must guard against private addresses itself
	CAs      *x509.CertPool // nil: the system's
}

var (
	// ErrEgress is in the chain of every refusal of the guard.
	ErrEgress = errors.New("egress refused")
	// ErrTooLarge is what reading a body beyond the bound gives.
	ErrTooLarge = fmt.Errorf("%w: the answer is too large", ErrEgress)
)

// Client makes a client behind the guard. It is for many calls; make one.
func (e Egress) Client() *http.Client {
	if e.MaxBytes == 0 {
		e.MaxBytes = 1 << 20
	}
	if e.Timeout == 0 {
		e.Timeout = 5 * time.Second
	}
	t := &http.Transport{
		DialContext:            e.dial,
		TLSClientConfig:        &tls.Config{RootCAs: e.CAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    e.Timeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if e.Proxy != nil {
		t.Proxy = http.ProxyURL(e.Proxy)
	}
	return &http.Client{
		Transport: guarded{e, t},
		Timeout:   e.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return fmt.Errorf("%w: the answer is a redirect", ErrEgress)
		},
	}
}

type guarded struct {
	e    Egress
	next http.RoundTripper
}

// RoundTrip judges the URL, and bounds the body. Connections are judged where
// they are made.
func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if !g.e.allowed(hostPort(r.URL)) {
		if r.URL.Scheme != "https" {
			return nil, fmt.Errorf("%w: %s is not https", ErrEgress, r.URL.Redacted())
		}
		if ip, err := netip.ParseAddr(r.URL.Hostname()); err == nil && !public(ip) {
			return nil, fmt.Errorf("%w: %s is not a public address", ErrEgress, ip)
		}
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{resp.Body, g.e.MaxBytes}
	return resp, nil
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// allowed reports whether a host:port is on the list.
func (e Egress) allowed(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && slices.ContainsFunc(e.Allow, func(a string) bool {
		return strings.EqualFold(a, addr) || strings.EqualFold(strings.Trim(a, "[]"), host)
	})
}

// Dial connects to host:port behind the guard, for what is not HTTP; the address
// that was judged is the one that is connected to.
func (e Egress) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if e.Timeout == 0 {
		e.Timeout = 5 * time.Second
	}
	return e.dial(ctx, network, addr)
}

// Allowed reports whether a host, or host:port, may have any address and may be
// spoken to without TLS.
func (e Egress) Allowed(host string) bool {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
	}
	return e.allowed(host)
}

// dial connects. The control function sees the resolved address of each
// attempt, so a name that resolves differently the second time gains nothing.
func (e Egress) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	free := e.allowed(addr) || e.Proxy != nil && addr == hostPort(e.Proxy)
	d := net.Dialer{Timeout: e.Timeout, Control: func(_, resolved string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(resolved)
		if !free && (err != nil || !public(ap.Addr())) {
			return fmt.Errorf("%w: %s is not a public address", ErrEgress, resolved)
		}
		return nil
	}}
	return d.DialContext(ctx, network, addr)
}

// special are the ranges of the IANA special-purpose registries that are not
// for everybody, or that carry another address within.
var special = func() (list []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}()

var global6 = netip.MustParsePrefix("2000::/3")

// public reports whether an address is one on the open Internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !global6.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// bounded fails when more than left bytes are read.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}
