package view

import (
	"fmt"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// nameLimit is how many characters of a name somebody supplied are shown.
const nameLimit = 80

// Visible makes text that somebody supplied safe to read: characters that are
// not seen or that change the order of what is seen (controls, bidirectional
// marks, zero-width characters, odd spaces, tags, variation selectors, unknown
// code points) are shown as ‹U+202E›, runs of more than two combining marks are
// cut to two, invalid UTF-8 becomes U+FFFD, and more than limit characters end
// in an ellipsis. HTML is escaped by the templates, not here.
func Visible(s string, limit int) string {
	var b strings.Builder
	n, marks := 0, 0
	for _, r := range strings.TrimSpace(s) {
		if n >= limit {
			b.WriteRune('…')
			break
		}
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
			if marks++; marks > 2 {
				continue
			}
		} else {
			marks = 0
		}
		n++
		switch {
		case r == ' ' || r == utf8.RuneError:
			b.WriteRune(r)
		case unseen(r):
			fmt.Fprintf(&b, "‹U+%04X›", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unseen(r rune) bool {
	switch {
	case r == 0x00AD, r == 0x034F, r == 0x115F, r == 0x1160, r == 0x17B4, r == 0x17B5, r == 0x2800, r == 0x3164, r == 0xFFA0: // drawn as nothing
		return true
	case 0xFE00 <= r && r <= 0xFE0E, 0xE0100 <= r && r <= 0xE01EF: // variation selectors; FE0F only colours
		return true
	}
	return !unicode.IsGraphic(r) || unicode.Is(unicode.Zs, r)
}

// name is Visible with the usual limit, "(no name)" for nothing.
func name(s string) string {
	if s = Visible(s, nameLimit); s == "" {
		return "(no name)"
	}
	return s
}

// Host gives the form of a host that cannot pretend to be another: ASCII, with
// Punycode for the rest. What is no host comes back made Visible.
func Host(s string) string {
	h, port, err := net.SplitHostPort(s)
	if err != nil {
		h, port = s, ""
	}
	a, err := idna.ToASCII(strings.ToLower(h))
	if err != nil || a == "" {
		return Visible(s, 255)
	}
	for _, r := range a {
		if !(r == '.' || r == '-' || r == ':' || r == '[' || r == ']' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z') {
			return Visible(s, 255)
		}
	}
	if port != "" {
		return net.JoinHostPort(a, port)
	}
	return a
}

// belongs tells whether a host, with or without a port, is a domain or below it.
func belongs(host, domain string) bool {
	h := Host(host)
	if name, _, err := net.SplitHostPort(h); err == nil {
		h = name
	}
	return h == Host(domain) || strings.HasSuffix(h, "."+Host(domain))
}

// foreign tells whether the host has letters that are shown as Punycode.
func foreign(host string) bool {
	h := Host(host)
	return strings.HasPrefix(h, "xn--") || strings.Contains(h, ".xn--")
}

func (p Page) zone() *time.Location {
	if p.Zone == nil {
		return time.UTC
	}
	return p.Zone
}

func (p Page) lang() string {
	if p.Lang == "" {
		return "en"
	}
	return p.Lang
}

// absolute is a time in full: "3 November 2026, 14:05 UTC".
func (p Page) absolute(t time.Time) string { return t.In(p.zone()).Format("2 January 2006, 15:04 MST") }

// clock is a time of day, with the day if it is not today.
func (p Page) clock(t time.Time) string {
	a, b := t.In(p.zone()), p.Now.In(p.zone())
	if a.Format(time.DateOnly) == b.Format(time.DateOnly) {
		return a.Format("15:04 MST")
	}
	return a.Format("2 Jan 15:04 MST")
}

// day is "3 November", with the year if it is another.
func (p Page) day(t time.Time) string {
	a := t.In(p.zone())
	if a.Year() == p.Now.In(p.zone()).Year() {
		return a.Format("2 January")
	}
	return a.Format("2 January 2006")
}

// relative is "just now", "4 minutes ago", "in 3 hours", "yesterday", or the
// day once it is more than four weeks off.
func (p Page) relative(t time.Time) string {
	d := p.Now.Sub(t)
	ahead := d < 0
	if ahead {
		d = -d
	}
	var s string
	switch {
	case d < 45*time.Second:
		if ahead {
			return "in a moment"
		}
		return "just now"
	case d < 90*time.Minute:
		s = plural(int((d+30*time.Second)/time.Minute), "minute")
	case d < 36*time.Hour:
		s = plural(int((d+30*time.Minute)/time.Hour), "hour")
	case d < 28*24*time.Hour:
		s = plural(int((d+12*time.Hour)/(24*time.Hour)), "day")
	default:
		return p.day(t)
	}
	if ahead {
		return "in " + s
	}
	return s + " ago"
}

// span is a duration in words: "5 minutes", "12 hours", "1 day".
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return plural(int((d+time.Second/2)/time.Second), "second")
	case d < 2*time.Hour:
		return plural(int((d+30*time.Second)/time.Minute), "minute")
	case d < 48*time.Hour:
		return plural(int((d+30*time.Minute)/time.Hour), "hour")
	}
	return plural(int((d+12*time.Hour)/(24*time.Hour)), "day")
}

func plural(n int, one string) string {
	switch n {
	case 0:
		return "no " + one + "s"
	case 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// list joins with commas and "and".
func list(parts []string) string {
	switch len(parts) {
	case 0:
		return ""
	case 1:
		return parts[0]
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

// secondsLeft is what remains until t, never negative.
func (p Page) secondsLeft(t time.Time) int {
	return max(0, int(t.Sub(p.Now)/time.Second))
}
