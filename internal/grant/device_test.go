package grant

import (
	"net/netip"
	"strings"
	"testing"
)

// Codes are drawn evenly from the whole alphabet, and read however they are
// written.
func TestUserCode(t *testing.T) {
	seen := map[rune]int{}
	for range 3000 {
		code := NewUserCode()
		for _, typed := range []string{code, strings.ToLower(code), ShowUserCode(code), " " + code[:2] + " " + code[2:] + "-", code[:4] + "\u2013" + code[4:]} {
			if got, ok := ReadUserCode(typed); !ok || got != code {
				t.Fatalf("%q is read as %q", typed, got)
			}
		}
		for _, r := range code {
			seen[r]++
		}
	}
	if len(seen) != len(userAlphabet) {
		t.Errorf("%d signs were drawn of %d", len(seen), len(userAlphabet))
	}
	for r, n := range seen {
		if n < 800 || n > 1200 { // 1,000 expected, 31 a standard deviation
			t.Errorf("%q was drawn %d times of 24,000", r, n)
		}
	}
	if c := NewConfirm(); len(c) != 6 || strings.Trim(c, "0123456789") != "" {
		t.Errorf("a confirmation code is %q", c)
	}
}

func TestElsewhere(t *testing.T) {
	for _, c := range []struct {
		device, browser string
		want            bool
	}{
		{"198.51.100.7", "198.51.100.200", false},
		{"198.51.100.7", "198.51.101.7", true},
		{"2001:db8:1::1", "2001:db8:1:ffff::9", false},
		{"2001:db8:1::1", "2001:db8:2::1", true},
		{"198.51.100.7", "2001:db8:1::1", true}, // could be anybody's
		{"", "198.51.100.7", true},
		{"198.51.100.7", "", true},
		{"x", "198.51.100.7", true},
		{"127.0.0.1", "127.0.0.1", true}, // everybody's, behind a proxy that nobody configured
		{"127.0.0.1", "::1", true},
		{"::1", "::1", true},
		{"::ffff:127.0.0.1", "127.8.9.10", true},
		{"::ffff:198.51.100.7", "198.51.100.9", false},
	} {
		browser, _ := netip.ParseAddr(c.browser)
		if got := Elsewhere(c.device, browser); got != c.want {
			t.Errorf("%q and %q: elsewhere %t", c.device, c.browser, got)
		}
		if (!Placed(c.device) || !Placed(c.browser)) && !c.want {
			t.Errorf("%q and %q are on one network, and one says none", c.device, c.browser)
		}
	}
}

// FuzzReadUserCode: what is read is a code, shown and read again the same; what is
// not gives nothing.
func FuzzReadUserCode(f *testing.F) {
	for _, s := range []string{"7Q4K-M2PX", "7q4k m2px", "", "AAAA-AAAA", "7Q4K\u2014M2PX", "7Q4K-M2PX-", "\x00\xff", "ſſſſſſſſ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, ok := ReadUserCode(s)
		if !ok {
			if code != "" {
				t.Errorf("%q is no code, and gives %q", s, code)
			}
			return
		}
		if len(code) != userCodeLength || strings.Trim(code, userAlphabet) != "" {
			t.Errorf("%q is read as %q", s, code)
		}
		if again, ok := ReadUserCode(ShowUserCode(code)); !ok || again != code {
			t.Errorf("%q is read as %q", ShowUserCode(code), again)
		}
	})
}
