package countersign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"testing"
)

// The floor: what one ES256 verification costs in this run.
func BenchmarkES256Verify(b *testing.B) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	sum := sha256.Sum256([]byte("x"))
	sig := must(ecdsa.SignASN1(rand.Reader, k, sum[:]))
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(&k.PublicKey, sum[:], sig) {
			b.Fatal("not verified")
		}
	}
}

func benchRequests(b *testing.B, tokens int) (*Verifier, []*http.Request) {
	i := newIssuer(b)
	v, key := newVerifier(b, i, nil), newKey(b)
	out := make([]*http.Request, tokens)
	for n := range out {
		out[n] = request(b, "GET", "/notes", i.Token(i.Claims(testAudience, key, "notes:read")), key)
	}
	return v, out
}

// A token seen for the first time, with its proof: two verifications and what
// is around them. Target: 2.2 × BenchmarkES256Verify.
func BenchmarkFirstSight(b *testing.B) {
	v, reqs := benchRequests(b, 4000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n%len(reqs) == 0 {
			v.tokens, v.proofs = newTokenCache(maxTokens), newReplayCache(proofSpan, maxProofs)
		}
		if _, err := v.Verify(reqs[n%len(reqs)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// A token seen before, its proof left out. Target: 5 µs.
func BenchmarkRepeatedToken(b *testing.B) {
	v, reqs := benchRequests(b, 1)
	if _, err := v.Verify(reqs[0]); err != nil {
		b.Fatal(err)
	}
	_, raw, _ := credentials(reqs[0].Header)
	b.ReportAllocs()
	for b.Loop() {
		e, err := v.known(b.Context(), raw, v.now())
		if err != nil || v.standing(b.Context(), e.token, false, OutageIntrospect) != nil {
			b.Fatal(err)
		}
	}
}

// The same with the proof.
func BenchmarkRepeatedTokenWithProof(b *testing.B) {
	v, reqs := benchRequests(b, 1)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n%(maxProofs/2) == 0 {
			v.proofs = newReplayCache(proofSpan, maxProofs)
		}
		v.proofs.now = map[[16]byte]struct{}{}
		if _, err := v.Verify(reqs[0]); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// The feed's part of a verification, with a million entries.
func BenchmarkFeedCheck(b *testing.B) {
	f := &feed{now: make(map[handle]struct{}, maxEntries)}
	for n := range maxEntries {
		f.now[handle{1, byte(n), byte(n >> 8), byte(n >> 16)}] = struct{}{}
	}
	t := &Token{handles: make([]handle, 9)}
	b.ReportAllocs()
	for b.Loop() {
		if ended, _, _ := f.judge(t); ended {
			b.Fatal("ended")
		}
	}
}
