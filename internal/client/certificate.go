package client

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strings"
)

// names are the ways in which a certificate may name a client (RFC 8705 §2.1.2):
// what is registered, under which member.
func (a Authentication) names() map[string]string {
	out := map[string]string{}
	for member, v := range map[string]string{
		"tls_client_auth_subject_dn": a.SubjectDN, "tls_client_auth_san_dns": a.SanDNS, "tls_client_auth_san_uri": a.SanURI,
		"tls_client_auth_san_ip": a.SanIP, "tls_client_auth_san_email": a.SanEmail,
	} {
		if v != "" {
			out[member] = v
		}
	}
	return out
}

// checkCertificate checks how a client is named in its certificate: by exactly one
// name, for tls_client_auth only (RFC 8705 §2.1.2).
func checkCertificate(c Client) error {
	names := c.names()
	switch {
	case c.AuthMethod != AuthTLS && len(names) > 0:
		return invalid("certificate_name_invalid", "Only a client with tls_client_auth has a name in its certificate.")
	case c.AuthMethod == AuthTLS && len(names) != 1:
		return invalid("certificate_name_invalid", "A client with tls_client_auth has exactly one of tls_client_auth_subject_dn, _san_dns, _san_uri, _san_ip and _san_email (RFC 8705 section 2.1.2).")
	}
	for member, v := range names {
		if !goodName(member, v) {
			return invalid("certificate_name_invalid", "%.200q cannot be a %s.", v, member)
		}
	}
	return nil
}

func goodName(member, v string) bool {
	if len(v) > MaxURI || strings.ContainsFunc(v, hidden) {
		return false
	}
	switch member {
	case "tls_client_auth_subject_dn":
		_, ok := parseDN(v)
		return ok
	case "tls_client_auth_san_dns":
		return plainName(v)
	case "tls_client_auth_san_uri":
		scheme, rest, ok := strings.Cut(v, ":")
		return ok && schemeName(scheme) && rest != "" && !strings.ContainsAny(v, " \"<>\\^`{|}")
	case "tls_client_auth_san_ip":
		a, err := netip.ParseAddr(v)
		return err == nil && a.Zone() == ""
	}
	local, host, ok := strings.Cut(v, "@")
	return ok && local != "" && plainName(host)
}

// Named reports whether a certificate names the client as it is registered (RFC
// 8705 §2.1.2). Who issued the certificate, and when it is valid, is not judged
// here. Names are compared whole: a wildcard stands for nothing.
func (c Client) Named(cert *x509.Certificate) bool {
	names := c.names()
	if len(names) != 1 {
		return false
	}
	switch {
	case c.SubjectDN != "":
		return sameDN(c.SubjectDN, cert.RawSubject)
	case c.SanDNS != "":
		return slices.ContainsFunc(cert.DNSNames, func(n string) bool { return strings.EqualFold(n, c.SanDNS) })
	case c.SanURI != "":
		return slices.Contains(rawNames(cert, tagURI), c.SanURI)
	case c.SanIP != "":
		want, err := netip.ParseAddr(c.SanIP)
		return err == nil && slices.ContainsFunc(rawNames(cert, tagIP), func(raw string) bool {
			a, ok := netip.AddrFromSlice([]byte(raw))
			return ok && a.Unmap() == want.Unmap()
		})
	}
	return slices.Contains(rawNames(cert, tagEmail), c.SanEmail)
}

// The kinds of a GeneralName (RFC 5280 §4.2.1.6) that are read as they stand: no
// parser may make two of them one.
const (
	tagEmail = 1
	tagURI   = 6
	tagIP    = 7
)

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// rawNames are the subject alternative names of one kind, byte by byte.
func rawNames(cert *x509.Certificate, tag int) (out []string) {
	for _, ext := range cert.Extensions {
		var seq asn1.RawValue
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		if rest, err := asn1.Unmarshal(ext.Value, &seq); err != nil || len(rest) > 0 {
			return nil
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == tag {
				out = append(out, string(name.Bytes))
			}
		}
	}
	return out
}

// attribute is one type and value of a distinguished name.
type attribute struct{ oid, value string }

// dn is a distinguished name: relative names, the most significant first as in a
// certificate, each with its attributes in order.
type dn [][]attribute

// attributeTypes are the short names of RFC 4514 §3 and those that certificates of
// clients have besides.
var attributeTypes = map[string]string{
	"cn": "2.5.4.3", "l": "2.5.4.7", "st": "2.5.4.8", "o": "2.5.4.10", "ou": "2.5.4.11", "c": "2.5.4.6", "street": "2.5.4.9",
	"dc": "0.9.2342.19200300.100.1.25", "uid": "0.9.2342.19200300.100.1.1", "serialnumber": "2.5.4.5", "sn": "2.5.4.4",
	"gn": "2.5.4.42", "givenname": "2.5.4.42", "title": "2.5.4.12", "postalcode": "2.5.4.17", "organizationidentifier": "2.5.4.97",
	"emailaddress": "1.2.840.113549.1.9.1", "businesscategory": "2.5.4.15",
}

// sameDN compares a registered name with a subject by type and value, however
// either is written (RFC 4514). Values are compared as they are: letter case and
// spaces count.
func sameDN(text string, raw []byte) bool {
	want, ok := parseDN(text)
	if !ok {
		return false
	}
	have, ok := readDN(raw)
	return ok && len(have) > 0 && slices.EqualFunc(want, have, slices.Equal[[]attribute])
}

// readDN reads the subject of a certificate. A value that is not a string of one of
// the usual kinds is not read.
func readDN(raw []byte) (dn, bool) {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &seq); err != nil || len(rest) > 0 {
		return nil, false
	}
	out := dn{}
	for _, rdn := range seq {
		var set []attribute
		for _, a := range rdn {
			v, ok := a.Value.(string)
			if !ok {
				return nil, false
			}
			set = append(set, attribute{a.Type.String(), v})
		}
		out = append(out, ordered(set))
	}
	return out, true
}

func ordered(set []attribute) []attribute {
	slices.SortFunc(set, func(a, b attribute) int { return strings.Compare(a.oid+"\x00"+a.value, b.oid+"\x00"+b.value) })
	return set
}

// parseDN reads the string form of a name (RFC 4514), which begins with the least
// significant part. Values in hexadecimal (#…) are not read.
func parseDN(s string) (dn, bool) {
	p := dnReader{s: s}
	var out dn
	for {
		var set []attribute
		for {
			a, ok := p.attribute()
			if !ok {
				return nil, false
			}
			set = append(set, a)
			if !p.eat('+') {
				break
			}
		}
		out = append(out, ordered(set))
		if p.i == len(s) {
			slices.Reverse(out)
			return out, true
		}
		if !p.eat(',') {
			return nil, false
		}
	}
}

type dnReader struct {
	s string
	i int
}

func (p *dnReader) eat(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// attribute reads type=value; spaces around either do not count (RFC 4514 §2.1 has
// none, and people write them).
func (p *dnReader) attribute() (attribute, bool) {
	end := strings.IndexByte(p.s[p.i:], '=')
	if end < 0 {
		return attribute{}, false
	}
	name := strings.ToLower(strings.Trim(p.s[p.i:p.i+end], " "))
	p.i += end + 1
	oid, known := attributeTypes[strings.TrimPrefix(name, "oid.")]
	if !known {
		oid = strings.TrimPrefix(name, "oid.")
	}
	value, ok := p.value()
	return attribute{oid, value}, ok && (known || dotted(oid))
}

// dotted reports whether s is an object identifier in numbers.
func dotted(s string) bool {
	n := 0
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || len(part) > 10 || part[0] == '0' && len(part) > 1 || strings.Trim(part, "0123456789") != "" {
			return false
		}
		n++
	}
	return n > 1
}

// value reads a value up to the next separator that is not escaped.
func (p *dnReader) value() (string, bool) {
	for p.eat(' ') {
	}
	if p.i < len(p.s) && p.s[p.i] == '#' {
		return "", false
	}
	var b []byte
	kept := 0 // spaces at the end that are not escaped do not count
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == ',' || c == '+':
			return string(b[:kept]), kept > 0
		case strings.IndexByte("\";<>\x00", c) >= 0:
			return "", false
		case c == '\\':
			e, n := unescapeDN(p.s[p.i+1:])
			if n == 0 {
				return "", false
			}
			b = append(b, e)
			p.i += n + 1
			kept = len(b)
			continue
		}
		b = append(b, c)
		p.i++
		if c != ' ' {
			kept = len(b)
		}
	}
	return string(b[:kept]), kept > 0
}

// unescapeDN reads what follows a backslash: a special character, or two
// hexadecimal digits of one byte.
func unescapeDN(s string) (c byte, n int) {
	if s == "" {
		return 0, 0
	}
	if strings.IndexByte("\\\"+,;<> #=", s[0]) >= 0 {
		return s[0], 1
	}
	if c, ok := escaped("%" + s); ok && c != 0 {
		return c, 2
	}
	return 0, 0
}
