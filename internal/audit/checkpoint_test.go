package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestOrigin(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://id.example.com":          "id.example.com/log/3",
		"https://id.example.com/":         "id.example.com/log/3",
		"https://example.com:8443/tenant": "example.com:8443/tenant/log/3",
		"http://localhost:8080":           "localhost:8080/log/3",
	} {
		if got, err := Origin(issuer, 3); got != want || err != nil {
			t.Errorf("Origin(%s) = %s, %v", issuer, got, err)
		}
	}
	for _, bad := range []string{"", "id.example.com", "https://", "https://a+b.example", "https://u@h", "https://h?q", "https://h#f"} {
		if got, err := Origin(bad, 1); err == nil || got != "" {
			t.Errorf("Origin(%q) = %s", bad, got)
		}
	}
	if _, err := Origin("https://h", 0); err == nil {
		t.Error("there is no epoch 0")
	}
}

func TestCheckpoint(t *testing.T) {
	s, vkey := vectorSigner(t)
	root := [32]byte(seq(32, 7))
	cp, err := SignCheckpoint(s, s.Name(), 123, root)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(string(cp), "\n"); len(lines) != 6 || lines[0] != s.Name() || lines[1] != "123" || lines[3] != "" {
		t.Errorf("checkpoint:\n%s", cp)
	}
	origin, size, got, err := VerifyCheckpoint(cp, vkey)
	if err != nil || origin != s.Name() || size != 123 || got != root {
		t.Errorf("VerifyCheckpoint = %s, %d, %x, %v", origin, size, got, err)
	}
	for i := range cp {
		for _, x := range []byte{1, 2, 4, 0x20, 0x80} {
			b := bytes.Clone(cp)
			b[i] ^= x
			if origin, size, got, err := VerifyCheckpoint(b, vkey); err == nil || origin != "" || size != 0 || got != [32]byte{} {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
	}
	if _, err := SignCheckpoint(s, "id.example.com/log/2", 1, root); err == nil {
		t.Error("signed for another origin")
	}
	// A witness's line may follow.
	skey, _, err := note.GenerateKey(rand.Reader, "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(cp, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, witness)
	if err != nil {
		t.Fatal(err)
	}
	if _, size, _, err := VerifyCheckpoint(both, vkey); err != nil || size != 123 {
		t.Errorf("with a witness: %d, %v", size, err)
	}
}

// TestCheckpointForm: notes that our key signed and that are no checkpoints.
func TestCheckpointForm(t *testing.T) {
	s, vkey := vectorSigner(t)
	root := "BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY="
	for body, want := range map[string]bool{
		s.Name() + "\n5\n" + root + "\n":                    true, // positive control
		s.Name() + "\n5\n" + root + "\nextension\n":         false,
		s.Name() + "\n05\n" + root + "\n":                   false,
		s.Name() + "\n-5\n" + root + "\n":                   false,
		s.Name() + "\n18446744073709551615\n" + root + "\n": false,
		s.Name() + "\n5\nBwgJ\n":                            false,
		"id.example.com/log/2\n5\n" + root + "\n":           false,
	} {
		b, err := note.Sign(&note.Note{Text: body}, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := VerifyCheckpoint(b, vkey); (err == nil) != want {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestCheckpointSignerRefuses(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewCheckpointSigner("id.example.com/log/1", p256); err == nil {
		t.Error("took a P-256 key")
	}
	if _, err := NewCheckpointSigner("a name", ed25519.NewKeyFromSeed(seq(32, 1))); err == nil {
		t.Error("took an origin with a space")
	}
}

func FuzzVerifyCheckpoint(f *testing.F) {
	s, vkey := vectorSigner(f)
	cp, err := SignCheckpoint(s, s.Name(), 123, [32]byte{7})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cp)
	f.Add([]byte(vecProof[strings.Index(vecProof, "id."):]))
	f.Fuzz(func(t *testing.T, b []byte) {
		origin, size, root, err := VerifyCheckpoint(b, vkey)
		if err != nil && (origin != "" || size != 0 || root != [32]byte{}) {
			t.Fatal("error and a value")
		}
		if err == nil && origin != s.Name() {
			t.Fatalf("origin %q", origin)
		}
		if _, _, err := VerifyProof(b, vkey, cp); err == nil {
			t.Fatal("proved a made-up entry")
		}
	})
}
