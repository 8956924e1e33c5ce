package keyring_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/problem"
)

type carried struct {
	Next string `json:"next"`
	Pad  string `json:"pad,omitempty"`
}

// TestState: what is sealed comes back to the same purpose and browser, and to
// no other, whatever was done to it on the way.
func TestState(t *testing.T) {
	r := full(t)
	seal := func(v carried) string {
		s, err := r.ring.SealState("signin", "browser one", v)
		r.ok(err)
		return s
	}
	s := seal(carried{Next: "/account"})
	var got carried
	r.ok(r.ring.OpenState("signin", "browser one", s, &got))
	if got.Next != "/account" {
		t.Errorf("opened %+v", got)
	}
	if again := seal(carried{Next: "/account"}); again == s {
		t.Error("the same is sealed the same twice")
	}
	if strings.Contains(s, base64.RawURLEncoding.EncodeToString([]byte("/account"))[:8]) {
		t.Error("the value can be read")
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	r.ok(err)
	cases := map[string][3]string{
		"another purpose":  {"consent", "browser one", s},
		"purpose extended": {"signin\x00", "browser one", s},
		"another browser":  {"signin", "browser two", s},
		"no browser":       {"signin", "", s},
		"empty":            {"signin", "browser one", ""},
		"short":            {"signin", "browser one", s[:12]},
		"cut":              {"signin", "browser one", s[:len(s)-2]},
		"longer":           {"signin", "browser one", s + "AAAA"},
		"no base64":        {"signin", "browser one", "!" + s[1:]},
		"padded":           {"signin", "browser one", s + "="},
		"oversize":         {"signin", "browser one", strings.Repeat(s, 16<<10/len(s)+1)},
	}
	for i := range b {
		c := append([]byte{}, b...)
		c[i] ^= 0x10
		cases["a bit of byte "+string(rune('A'+i%26))+strings.Repeat("'", i/26)] = [3]string{"signin", "browser one", base64.RawURLEncoding.EncodeToString(c)}
	}
	for name, c := range cases {
		got := carried{Next: "untouched"}
		err := r.ring.OpenState(c[0], c[1], c[2], &got)
		if problem.CodeOf(err) != "transaction_unknown" || got.Next != "untouched" {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
	}
	if _, err := r.ring.SealState("signin", "browser one", carried{Pad: strings.Repeat("x", 12<<10)}); problem.CodeOf(err) != "request_too_long" {
		t.Errorf("what could not be opened is sealed: %v", err)
	}
	large := seal(carried{Pad: strings.Repeat("x", 10<<10)})
	r.ok(r.ring.OpenState("signin", "browser one", large, &got))

	// What was sealed under an older key opens while that key is there.
	r.add(r.symmetric(keyring.Nonce, 2, seq(32, 9)))
	r.ok(r.ring.OpenState("signin", "browser one", s, &got))
	for _, k := range r.ring.List() {
		if k.Purpose == keyring.Nonce && k.Version == 1 {
			r.commit(keyring.Withdraw{ID: k.ID, At: r.now})
		}
	}
	if err := r.ring.OpenState("signin", "browser one", s, &got); problem.CodeOf(err) != "transaction_unknown" {
		t.Errorf("under a withdrawn key: %v", err)
	}
	if _, err := newRig(t).ring.SealState("signin", "", got); err == nil {
		t.Error("sealed without a key")
	}
}
