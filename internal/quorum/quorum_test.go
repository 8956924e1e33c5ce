package quorum

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

const text = "log.example.com/log/1\n5\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n"

var when = time.Unix(1_790_000_000, 0).UTC()

// signer is a witness's key, in both forms.
type signer struct {
	Key
	private ed25519.PrivateKey
}

func newSigner(t testing.TB, name string) signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey(name, public)
	if err != nil {
		t.Fatal(err)
	}
	return signer{k, private}
}

func (s signer) cosign(at time.Time) string { return Cosign(s.Key, s.private, []byte(text), at) }

// logLine signs the checkpoint as its log.
func logLine(t testing.TB) string {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, "log.example.com/log/1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	b, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(string(b), text+"\n")
}

// TestCosignatureOfOthers: what another implementation signs is verified, and the
// other way round.
func TestCosignatureOfOthers(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example.com/w1")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := formats.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	typed, err := formats.VKeyToCosignatureV1(vkey)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKey(typed)
	if err != nil || k.String() != typed {
		t.Fatalf("%v: %s, want %s", err, k, typed)
	}
	signed, err := note.Sign(&note.Note{Text: text}, theirs)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Cosignatures(signed, []Key{k})
	if err != nil || len(list) != 1 || time.Since(list[0].At) > time.Minute {
		t.Errorf("theirs: %+v, %v", list, err)
	}

	ours := newSigner(t, "witness.example.com/w2")
	v, err := formats.NewVerifierForCosignatureV1(ours.String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(text+"\n"+ours.cosign(when)), note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	if at, err := formats.CoSigV1Timestamp(n.Sigs[0]); err != nil || !at.Equal(when) {
		t.Errorf("ours: %v, %v", at, err)
	}
}

// TestCosignatures: only keys that are known count, each once, and what they sign is
// the text and the time.
func TestCosignatures(t *testing.T) {
	a, b, c := newSigner(t, "a.example"), newSigner(t, "b.example"), newSigner(t, "c.example")
	keys := []Key{a.Key, b.Key}
	signed := []byte(text + "\n" + logLine(t) + a.cosign(when) + c.cosign(when) + b.cosign(when.Add(time.Hour)))
	list, err := Cosignatures(signed, keys)
	if err != nil || len(list) != 2 || !list[0].At.Equal(when) || !list[1].At.Equal(when.Add(time.Hour)) || list[0].Line != a.cosign(when) {
		t.Fatalf("%+v, %v", list, err)
	}
	if list, err := Cosignatures([]byte(text+"\n"+logLine(t)), keys); err != nil || list != nil {
		t.Errorf("none: %+v, %v", list, err)
	}
	if list, err := Cosignatures(slices.Concat(signed, []byte(a.cosign(when))), keys); err == nil && len(list) != 2 {
		t.Errorf("twice: %+v", list)
	}
	for name, bad := range map[string][]byte{
		"another text":  bytes.Replace(signed, []byte("\n5\n"), []byte("\n6\n"), 1),
		"another time":  []byte(text + "\n" + swapTime(a.cosign(when))),
		"a log's way":   []byte(text + "\n" + plain(a)),
		"cut off":       signed[:len(signed)-9],
		"not a note":    []byte(text),
		"other's name":  []byte(text + "\n" + strings.Replace(c.cosign(when), "c.example", "a.example", 1)),
		"no text":       []byte("\n" + a.cosign(when)),
		"empty":         nil,
		"a longer note": append([]byte("x\n"), signed...),
	} {
		list, err := Cosignatures(bad, keys)
		if name == "other's name" && err == nil && list == nil {
			continue // its key id is another's: nobody's signature
		}
		if err == nil || list != nil {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
}

// swapTime changes a bit of the time that a cosignature says.
func swapTime(line string) string {
	name, enc, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "— "), "\n"), " ")
	b := []byte(enc)
	b[12] ^= 1 // in the eight bytes behind the key id
	return "— " + name + " " + string(b) + "\n"
}

// plain signs without time and header, under the witness's name and key id.
func plain(s signer) string {
	return Cosign(s.Key, s.private, []byte("cosignature/v1\n"+text), when)
}

func TestParseKey(t *testing.T) {
	s := newSigner(t, "w.example")
	logKey, err := note.NewEd25519VerifierKey("w.example", s.Public)
	if err != nil {
		t.Fatal(err)
	}
	_, mldsa, err := formats.GenerateMLDSAKey("w.example")
	if err != nil {
		t.Fatal(err)
	}
	good := s.String()
	for name, vkey := range map[string]string{
		"a log's": logKey, "ML-DSA": mldsa, "empty": "", "no parts": "w.example", "cut": good[:len(good)-4], "more": good + "AA==",
		"another id": strings.Replace(good, "+", "+0", 1)[:len(good)], "another name": "x" + good, "a space": "w " + good, "no name": good[len("w.example"):],
		"upper case": strings.ToUpper(good[:20]) + good[20:],
	} {
		if k, err := ParseKey(vkey); err == nil || k.Public != nil {
			t.Errorf("%s: %q was taken for %s", name, vkey, k)
		}
	}
	if _, err := NewKey("a b", s.Public); err == nil {
		t.Error("a name with a space")
	}
}

// policy writes a policy over witnesses w1 to wn.
func policy(keys []signer, rest string) []byte {
	var b strings.Builder
	for i, k := range keys {
		fmt.Fprintf(&b, "witness w%d %s https://w%d.example.com/\n", i+1, k, i+1)
	}
	return []byte(b.String() + rest)
}

// TestKeysThatEndAlike: base64 has a "+" of its own, so two keys may be equal behind the
// last one; the same key under two names is still found.
func TestKeysThatEndAlike(t *testing.T) {
	var keys []signer
	seed := make([]byte, ed25519.SeedSize)
	for i := 0; len(keys) < 2; i++ {
		binary.BigEndian.PutUint32(seed, uint32(i))
		private := ed25519.NewKeyFromSeed(seed)
		k, err := NewKey(fmt.Sprintf("w%d.example.com", len(keys)+1), private.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(k.String(), "+") {
			keys = append(keys, signer{k, private})
		}
	}
	if _, err := Parse(policy(keys, "quorum w1\n")); err != nil {
		t.Errorf("%s and %s: %v", keys[0], keys[1], err)
	}
	again, err := NewKey("w2.example.com", keys[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(policy([]signer{keys[0], {again, keys[0].private}}, "quorum w1\n")); err == nil {
		t.Error("one key under two names")
	}
}

// TestQuorum: which witnesses are enough, for every subset of five.
func TestQuorum(t *testing.T) {
	var keys []signer
	for i := range 5 {
		keys = append(keys, newSigner(t, fmt.Sprintf("w%d.example.com", i+1)))
	}
	has := func(set int, n int) bool { return set>>(n-1)&1 == 1 }
	count := func(set int, list ...int) (n int) {
		for _, i := range list {
			if has(set, i) {
				n++
			}
		}
		return n
	}
	for rest, want := range map[string]func(set int) bool{
		"quorum none\n":                        func(int) bool { return true },
		"quorum w2\n":                          func(s int) bool { return has(s, 2) },
		"group g all w1 w2 w3\nquorum g\n":     func(s int) bool { return count(s, 1, 2, 3) == 3 },
		"group g any w1 w5\nquorum g\n":        func(s int) bool { return count(s, 1, 5) > 0 },
		"group g 3 w1 w2 w3 w4 w5\nquorum g\n": func(s int) bool { return count(s, 1, 2, 3, 4, 5) >= 3 },
		"group a 2 w1 w2 w3\ngroup b any w4 w5\ngroup c all a b\nquorum c\n": func(s int) bool { return count(s, 1, 2, 3) >= 2 && count(s, 4, 5) > 0 },
	} {
		p, err := Parse(policy(keys, "# who\n\n \t"+rest))
		if err != nil {
			t.Errorf("%q: %v", rest, err)
			continue
		}
		for set := range 32 {
			signed := text + "\n" + logLine(t)
			for i, k := range keys {
				if set>>i&1 == 1 {
					signed += k.cosign(when)
				}
			}
			met, by, err := p.Check([]byte(signed))
			if err != nil || met != want(set) || len(by) != count(set, 1, 2, 3, 4, 5) {
				t.Errorf("%q with %05b: %v by %d, %v", rest, set, met, len(by), err)
			}
		}
	}
}

func TestParse(t *testing.T) {
	keys := []signer{newSigner(t, "w1"), newSigner(t, "w2"), newSigner(t, "w3")}
	again, err := NewKey("another-name", keys[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	logKey, err := note.NewEd25519VerifierKey("log.example.com/log/1", keys[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	good := string(policy(keys, "log "+logKey+" https://log.example.com\ngroup g 2 w1 w2 w3\nquorum g\n"))
	p, err := Parse([]byte("# \xff\xfe\n" + strings.ReplaceAll(good, " ", "\t \t")))
	if err != nil || len(p.Logs) != 1 || p.Logs[0].URL == "" || len(p.Witnesses) != 3 || p.Witnesses[2].URL != "https://w3.example.com/" || p.None() {
		t.Fatalf("%+v, %v", p, err)
	}
	for name, bad := range map[string]string{
		"no quorum":         string(policy(keys, "")),
		"empty":             "",
		"two quorums":       good + "quorum w1\n",
		"unknown quorum":    string(policy(keys, "quorum x\n")),
		"quorum before":     "quorum w1\n" + string(policy(keys, "")),
		"forward group":     string(policy(keys, "group a any b\ngroup b any w1\nquorum a\n")),
		"itself":            string(policy(keys, "group a any a\nquorum a\n")),
		"member none":       string(policy(keys, "group a any none\nquorum a\n")),
		"called none":       string(policy(keys, "group none any w1\nquorum none\n")),
		"name twice":        string(policy(keys, "group w1 any w2\nquorum w1\n")),
		"member twice":      string(policy(keys, "group a any w1\ngroup b any w1\nquorum b\n")),
		"member twice here": string(policy(keys, "group a 2 w1 w1\nquorum a\n")),
		"too many":          string(policy(keys, "group a 4 w1 w2 w3\nquorum a\n")),
		"zero":              string(policy(keys, "group a 0 w1\nquorum a\n")),
		"plus":              string(policy(keys, "group a +1 w1\nquorum a\n")),
		"leading zero":      string(policy(keys, "group a 01 w1\nquorum a\n")),
		"no members":        string(policy(keys, "group a all\nquorum a\n")),
		"a key twice":       string(policy(keys, "witness again "+again.String()+"\nquorum w1\n")),
		"a log twice":       good + "log " + logKey + "\n",
		"a log's key":       "witness w " + logKey + "\nquorum w\n",
		"unknown word":      good + "threshold 2\n",
		"carriage return":   strings.ReplaceAll(good, "\n", "\r\n"),
		"no-break space":    strings.ReplaceAll(good, "group g", "group\u00a0g"),
		"form feed":         good + "\f\n",
		"no last newline":   strings.TrimSuffix(good, "\n"),
		"words behind":      good + "quorum\n",
		"log without key":   good + "log\n",
		"too long":          good + strings.Repeat("#\n", maxPolicy/2),
	} {
		if p, err := Parse([]byte(bad)); err == nil || p != nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	keys := []signer{newSigner(f, "w1"), newSigner(f, "w2")}
	f.Add(policy(keys, "group g 1 w1 w2\nquorum g\n"))
	f.Add([]byte("quorum none\n"))
	f.Add([]byte("log x\ngroup a all b\n# \xff\nquorum\ta \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if p != nil {
				t.Error("an error comes with a policy")
			}
			return
		}
		if p.Met(nil) != p.None() {
			t.Error("nobody is enough")
		}
		var all []Cosignature
		for _, k := range p.Keys() {
			all = append(all, Cosignature{Key: k})
		}
		if !p.Met(all) {
			t.Error("all are not enough")
		}
	})
}

func FuzzCosignatures(f *testing.F) {
	k := newSigner(f, "w1")
	f.Add([]byte(text + "\n" + logLine(f) + k.cosign(when)))
	f.Add([]byte("a\n\n— w1 AAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Cosignatures(b, []Key{k.Key})
		if err != nil && list != nil {
			t.Error("an error comes with cosignatures")
		}
		for _, c := range list {
			if !bytes.Contains(b, []byte(c.Line)) {
				t.Errorf("%q is not in the note", c.Line)
			}
		}
		if body, sigs, err := Body(b); err == nil && len(body)+1+len(sigs) != len(b) {
			t.Error("the parts are not the whole")
		}
	})
}
