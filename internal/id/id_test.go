package id

import (
	"bytes"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/problem"
)

var prefixes = []string{Person, Service, Agent, Device, Session, Grant, Family, Client, Credential, Resource, Group, Record, Invitation, Policy, Recovery}

// reference is the encoding done slowly: 26 digits base 32 of one big number.
func reference(prefix string, b [16]byte) string {
	n := new(big.Int).SetBytes(b[:])
	out := make([]byte, 26)
	for i := 25; i >= 0; i-- {
		var digit big.Int
		n.DivMod(n, big.NewInt(32), &digit)
		out[i] = alphabet[digit.Int64()]
	}
	return prefix + string(out)
}

func TestEncodeParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "b"))
		prefix := rapid.SampledFrom(prefixes).Draw(t, "prefix")
		s := Encode(prefix, b)
		if s != reference(prefix, b) {
			t.Fatalf("%x is %s, want %s", b, s, reference(prefix, b))
		}
		if got, err := Parse(prefix, s); err != nil || got != b {
			t.Fatalf("%s parses to %x, %v", s, got, err)
		}
		if got, ok := Bytes(s); !ok || got != b {
			t.Fatalf("Bytes(%s) = %x, %t", s, got, ok)
		}
	})
}

// Every bit alone, and every value of every byte.
func TestEncodeEdges(t *testing.T) {
	for at := range 16 {
		for v := range 256 {
			for _, rest := range []byte{0, 0xff} {
				b := [16]byte(bytes.Repeat([]byte{rest}, 16))
				b[at] = byte(v)
				if got, err := Parse(Person, Encode(Person, b)); err != nil || got != b {
					t.Fatalf("%x: %x, %v", b, got, err)
				}
			}
		}
	}
	if s := Encode(Person, [16]byte(bytes.Repeat([]byte{0xff}, 16))); s != "usr_7"+strings.Repeat("Z", 25) {
		t.Errorf("the largest is %s", s)
	}
}

func TestParseRefuses(t *testing.T) {
	good := Encode(Person, [16]byte{1, 2, 3})
	for _, s := range []string{
		"", "usr_", good[:len(good)-1], good + "0", "svc_" + good[4:], strings.ToLower(good), strings.ToUpper(good), " " + good[1:],
		"usr_8" + good[5:], "usr_Z" + strings.Repeat("Z", 25), good[:20] + "U" + good[21:], good[:20] + "I" + good[21:], good[:20] + "L" + good[21:],
		good[:20] + "O" + good[21:], good[:20] + "-" + good[21:], good[:20] + "\x00" + good[21:], good[:20] + "é" + good[22:],
	} {
		if b, err := Parse(Person, s); !errors.Is(err, problem.Invalid) || problem.CodeOf(err) != "id_invalid" || b != [16]byte{} {
			t.Errorf("%q: %x, %v", s, b, err)
		}
	}
	for _, s := range []string{"", good[4:], good[3:], "usr" + good[4:], "usr-" + good[4:], good[:len(good)-1] + "!", good[:len(good)-1] + "u"} {
		if b, ok := Bytes(s); ok || b != [16]byte{} {
			t.Errorf("Bytes(%q) = %x, %t", s, b, ok)
		}
	}
}

func TestNew(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	var made []string
	for range 2000 {
		made = append(made, New(Record))
	}
	after := time.Now()
	if !slices.IsSorted(made) || len(slices.Compact(slices.Clone(made))) != len(made) {
		t.Error("ids are not in the order they were made, or not unique")
	}
	for _, s := range made {
		b, err := Parse(Record, s)
		if err != nil {
			t.Fatal(err)
		}
		if at := MadeAt(b); at.Before(before) || at.After(after) {
			t.Fatalf("%s was made at %s, between %s and %s", s, at, before, after)
		}
		if b[6]>>4 != 7 || b[8]>>6 != 2 {
			t.Fatalf("%x is no UUIDv7", b)
		}
	}
}

func TestRandom(t *testing.T) {
	a, b := Random(Person), Random(Person)
	if _, err := Parse(Person, a); err != nil || a == b {
		t.Errorf("%s, %s, %v", a, b, err)
	}
}

func TestPrefixes(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range prefixes {
		if seen[p] || !strings.HasSuffix(p, "_") || strings.Count(p, "_") != 1 || strings.ToLower(p) != p {
			t.Errorf("prefix %q", p)
		}
		seen[p] = true
	}
}

// What parses is what Encode writes, and nothing else.
func FuzzParse(f *testing.F) {
	f.Add(Encode(Person, [16]byte{}))
	f.Add("usr_7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
	f.Add("usr_")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := Parse(Person, s)
		if err != nil {
			if b != [16]byte{} {
				t.Fatalf("%x with %v", b, err)
			}
			return
		}
		if Encode(Person, b) != s {
			t.Fatalf("%q is taken for %s", s, Encode(Person, b))
		}
	})
}

func TestEarliest(t *testing.T) {
	before := time.Now()
	made := New(Record)
	if e := Earliest(Record, before.Add(-time.Millisecond)); e > made {
		t.Errorf("%s is later than %s", e, made)
	}
	if e := Earliest(Record, before.Add(time.Minute)); e < made {
		t.Errorf("%s is earlier than %s", e, made)
	}
	if e := Earliest(Record, time.Time{}); e != Encode(Record, [16]byte{}) {
		t.Errorf("%s", e)
	}
}
