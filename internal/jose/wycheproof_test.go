package jose

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// testdata/wycheproof holds two files of github.com/C2SP/wycheproof as they are
// there (commit fca0d3ba9f12, Apache License 2.0, beside them).

type wycheproofGroup struct {
	Comment string
	Public  json.RawMessage
	Private json.RawMessage
	Tests   []struct {
		ID      int `json:"tcId"`
		Comment string
		Result  string
		JWS     string
	}
}

// wycheproof reads a file of vectors and checks that it is whole.
func wycheproof(t *testing.T, name string) []wycheproofGroup {
	t.Helper()
	data, err := os.ReadFile("testdata/wycheproof/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		NumberOfTests int
		TestGroups    []wycheproofGroup
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range file.TestGroups {
		n += len(g.Tests)
	}
	if n == 0 || n != file.NumberOfTests {
		t.Fatalf("%s has %d cases and says %d", name, n, file.NumberOfTests)
	}
	return file.TestGroups
}

// Why a token that the vectors call valid is refused here. Each is a choice of
// ours, and each is counted: a case that moves from one to another, or out of
// them, fails.
const (
	refusedSymmetric = "a symmetric key: nobody here shares one with a client"
	refusedAlgorithm = "RS384, RS512, PS384 and PS512 are not among the algorithms"
	refusedKeyName   = "the key is named for ES521, which is no algorithm (RFC 7518 has ES512)"
)

// verdict verifies a token under a set, with every algorithm that any verifier
// here takes.
func verdict(token string, set *JWKSet) bool {
	o, fault := rowAssertion.open(token, every, MaxToken)
	return fault == nil && rowAssertion.verify(o, set) == nil
}

// TestWycheproof runs every case of both files of JOSE signatures. Where the
// vectors say invalid, nothing is accepted; where they say valid, it is accepted
// unless for one of three reasons.
func TestWycheproof(t *testing.T) {
	for _, file := range []struct {
		name            string
		valid, invalid  int
		refused         map[string]int
		setOf           func(wycheproofGroup) string
		keysNotReadable int // groups of which no key is taken
	}{
		{
			name: "json_web_signature_test.json", valid: 16, invalid: 355, keysNotReadable: 14,
			refused: map[string]int{refusedSymmetric: 9, refusedAlgorithm: 18, refusedKeyName: 2},
			setOf: func(g wycheproofGroup) string {
				if g.Public == nil { // a symmetric key has no public half
					return `{"keys":[` + string(g.Private) + `]}`
				}
				return `{"keys":[` + string(g.Public) + `]}`
			},
		},
		{
			name: "json_web_key_test.json", valid: 1, invalid: 21, keysNotReadable: 23,
			refused: map[string]int{refusedSymmetric: 4},
			setOf: func(g wycheproofGroup) string {
				if g.Public == nil {
					return string(g.Private)
				}
				return string(g.Public)
			},
		},
	} {
		t.Run(file.name, func(t *testing.T) {
			valid, invalid, unreadable, refused := 0, 0, 0, map[string]int{}
			for _, g := range wycheproof(t, file.name) {
				text := file.setOf(g)
				set, err := ParseJWKSet([]byte(text))
				if err != nil {
					t.Fatalf("%s: %v", g.Comment, err)
				}
				if len(set.Keys) == 0 {
					unreadable++
				}
				for _, c := range g.Tests {
					why, accepted := "", verdict(c.JWS, set)
					if c.Result == "valid" {
						why = whyRefused(text, c.JWS)
					}
					switch {
					case accepted != (c.Result == "valid" && why == ""):
						t.Errorf("%s %d %s: accepted %t, the vectors say %s %s", g.Comment, c.ID, c.Comment, accepted, c.Result, why)
					case why != "":
						refused[why]++
					case accepted:
						valid++
					default:
						invalid++
					}
					if why == refusedKeyName {
						renamed, err := ParseJWKSet([]byte(strings.ReplaceAll(text, "ES521", "ES512")))
						if err != nil || !verdict(c.JWS, renamed) {
							t.Errorf("%s %d: refused for more than the name of the key, %v", g.Comment, c.ID, err)
						}
					}
				}
			}
			if valid != file.valid || invalid != file.invalid || unreadable != file.keysNotReadable {
				t.Errorf("%d accepted, %d refused, %d groups without a key; want %d, %d, %d", valid, invalid, unreadable, file.valid, file.invalid, file.keysNotReadable)
			}
			for _, why := range []string{refusedSymmetric, refusedAlgorithm, refusedKeyName} {
				if refused[why] != file.refused[why] {
					t.Errorf("%d refused because: %s; want %d", refused[why], why, file.refused[why])
				}
			}
		})
	}
}

// whyRefused is the reason for which a valid token of the vectors is not one here.
func whyRefused(set, token string) string {
	head, _, _ := strings.Cut(token, ".")
	var h struct{ Alg string }
	if text, err := b64.DecodeString(head); err != nil || json.Unmarshal(text, &h) != nil {
		return "a header that cannot be read"
	}
	switch {
	case strings.HasPrefix(h.Alg, "HS"):
		return refusedSymmetric
	case !slices.Contains(every, h.Alg):
		return refusedAlgorithm
	case strings.Contains(set, `"ES521"`):
		return refusedKeyName
	}
	return ""
}

// A key of the generator whose keys can be factored is known by its modulus; of
// others, none is.
func TestFactorable(t *testing.T) {
	roca := 0
	for _, g := range wycheproof(t, "json_web_key_test.json") {
		if g.Comment != "jws_rsa_roca_key" {
			continue
		}
		roca++
		sound := strings.Replace(string(g.Public), `"n": "A`, `"n": "B`, 1) // another modulus of the same length
		if set, err := ParseJWKSet([]byte(sound)); err != nil || len(set.Keys) != 1 {
			t.Errorf("the control is refused for its form: %v, %v", set, err)
		}
		if set, err := ParseJWKSet(g.Public); err != nil || len(set.Keys) != 0 {
			t.Errorf("%v, %v", set, err)
		}
	}
	if roca != 1 {
		t.Errorf("%d such keys in the vectors", roca)
	}
	if factorable(rsa2048.N) {
		t.Error("a key made here looks like one of that generator")
	}
}
