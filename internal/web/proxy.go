package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The headers a trusted hop may write the client's address to. Exactly one is
// configured (mechanisms I18).
const (
	Forwarded     = "Forwarded" // RFC 7239
	XForwardedFor = "X-Forwarded-For"
)

// Proxies are the hops whose word about the client is taken.
type Proxies struct {
	addrs  []netip.Addr
	unix   bool
	header string
}

// NewProxies reads the configured hops: single addresses, or "unix" for
// whoever reaches a Unix socket of ours. Anything wider than one address is an
// error: in a cluster a range means everybody (mechanisms I17).
func NewProxies(hops []string, header string) (*Proxies, error) {
	p := &Proxies{header: http.CanonicalHeaderKey(header)}
	if p.header != Forwarded && p.header != XForwardedFor && (len(hops) > 0 || header != "") {
		return nil, fmt.Errorf("trusted proxies: the header must be %s or %s, not %q", Forwarded, XForwardedFor, header)
	}
	for _, h := range hops {
		if h == "unix" {
			p.unix = true
			continue
		}
		single := strings.TrimSuffix(h, "/32")
		if strings.Contains(h, ":") {
			single = strings.TrimSuffix(h, "/128")
		}
		a, err := netip.ParseAddr(single)
		if err != nil || a.Zone() != "" || a.IsUnspecified() {
			return nil, fmt.Errorf("trusted proxies: %q is not a single address (or \"unix\")", h)
		}
		p.addrs = append(p.addrs, a.Unmap())
	}
	return p, nil
}

// forwarding are the headers that say a hop stands between.
var forwarding = []string{Forwarded, XForwardedFor, "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-Ip", "Via"}

// proxied reports whether a request says that it came through a hop.
func proxied(r *http.Request) bool {
	for name := range r.Header {
		if slices.Contains(forwarding, name) || strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "X-Forwarded-") {
			return true
		}
	}
	return false
}

// client finds the client's address; not valid means unknown. An untrusted
// peer is itself the client, unless it says that it stands for another.
func (p *Proxies) client(r *http.Request) netip.Addr {
	peer, trusted := p.peer(r)
	if !trusted {
		if proxied(r) {
			return netip.Addr{}
		}
		return peer
	}
	var hops []string
	var ok bool
	lines := r.Header[p.header]
	if p.header == Forwarded {
		hops, ok = forwardedFor(strings.Join(lines, ","))
	} else {
		hops, ok = strings.Split(strings.Join(lines, ","), ","), len(lines) > 0
	}
	if !ok {
		return netip.Addr{}
	}
	for _, hop := range slices.Backward(hops) {
		a, ok := hopAddr(strings.Trim(hop, " \t"))
		if !ok {
			return netip.Addr{}
		}
		if !slices.Contains(p.addrs, a) {
			return a
		}
	}
	return netip.Addr{} // trusted hops all the way: nobody said who the client is
}

// peer is the other end of the connection and whether its word is taken.
func (p *Proxies) peer(r *http.Request) (a netip.Addr, trusted bool) {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return netip.Addr{}, p != nil && p.unix
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	a = ap.Addr().Unmap().WithZone("")
	return a, p != nil && slices.Contains(p.addrs, a)
}

// hopAddr reads an address with or without a port.
func hopAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if strings.HasPrefix(s, "[") != strings.HasSuffix(s, "]") || err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = ap.Addr()
	}
	return a.Unmap(), a.Zone() == ""
}

// forwardedFor reads the for parameters of a Forwarded field (RFC 7239 §4), ""
// for an element without one. A field that is not well formed gives none: a
// half-read one could be made to hide what a trusted hop appended.
func forwardedFor(s string) (list []string, ok bool) {
	p := fieldReader{s: s}
	for {
		hop, seen := "", map[string]bool{}
		for {
			p.space()
			name := strings.ToLower(p.token())
			if name == "" || seen[name] || !p.eat('=') {
				return nil, false
			}
			seen[name] = true
			value, ok := p.value()
			if !ok {
				return nil, false
			}
			if name == "for" {
				hop = value
			}
			p.space()
			if !p.eat(';') {
				break
			}
		}
		list = append(list, hop)
		if p.i == len(s) {
			return list, true
		}
		if !p.eat(',') {
			return nil, false
		}
	}
}

type fieldReader struct {
	s string
	i int
}

func (p *fieldReader) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t') {
		p.i++
	}
}

func (p *fieldReader) eat(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// token reads a token (RFC 9110 §5.6.2).
func (p *fieldReader) token() string {
	start := p.i
	for p.i < len(p.s) {
		c := p.s[p.i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			break
		}
		p.i++
	}
	return p.s[start:p.i]
}

// value reads a token or a quoted string.
func (p *fieldReader) value() (string, bool) {
	if !p.eat('"') {
		t := p.token()
		return t, t != ""
	}
	var b []byte
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == '"':
			return string(b), true
		case c == '\\':
			if p.i == len(p.s) {
				return "", false
			}
			c = p.s[p.i]
			p.i++
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", false
		}
		b = append(b, c)
	}
	return "", false
}
