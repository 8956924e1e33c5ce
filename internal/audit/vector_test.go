package audit

import (
	"crypto/ed25519"
	"encoding/hex"
	"strings"
	"testing"
)

func seq(n int, start byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = start + byte(i)
	}
	return b
}

// The audit vectors of mechanisms, appendix 1.
const (
	vecPart0  = `{"aaguid":"00000000-0000-0000-0000-000000000000","be":false,"bs":false,"cred":"cred_1","endorsed":"cred_0","k":"factor.enrolled","pk":"iM1luS-CU_3elX_IJ9mr9sEclDDaSrFQuGbzwW7M-kA","rp":"approve.example.com","v":1}`
	vecPart1  = `{"action":"s0udKN26U4U0x0tFClqLMHNB2xX9d_RpzUbTpeHkN6M","k":"approval.decided","receipt":"BQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQ","req":"apr_0001","v":1}`
	vecEntry0 = "01030100065bfc8619fc009091929394959697000000000000000101707172737475767778797a7b7c7d7e7f0120ed9778e191268dea78e1f0f5af949c82d9f6699b8de9197e2bcc3d0eab4dc3"
	vecEntry1 = "01050200065bfee17ab4c09091929394959697000000000000000201707172737475767778797a7b7c7d7e7f01895475df4ad2bcfd1a3b73d7a1633fa736eaf716cbdc161f1363cbbc1144d6f4"
	vecVKey   = "id.example.com/log/1+39e8cec7+AU4w5TfaDXStwGQrLDMNp3MplMRgWF45pwod1RGmCMR7"
	vecProof  = `c2sp.org/tlog-proof@v1
index 1
yXZtVf/BK+E67Dbyoc24we4O26TsdJ5maOMc0yG2QPg=

id.example.com/log/1
2
vqHuOotf6Cxx8iDxToVAeWuofkeiXThC32eEOGfuSC8=

— id.example.com/log/1 OejOx7m1dHFwY363eFtVYPeNW43UVwP2k29ZCv5IKoccMFmDQ3/x7jojv2G/tCIJVPi5VjCGX9wnrXgHwUdd7GgRFwc=
`
)

func vectorSigner(t testing.TB) (*CheckpointSigner, string) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(seq(32, 0x33))
	origin, err := Origin("https://id.example.com", 1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewCheckpointSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := VKey(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

func TestVectors(t *testing.T) {
	for i, v := range []struct {
		kind              Kind
		at                int64
		salt              byte
		part, entry, leaf string
	}{
		{FactorEnrolled, 1789990000000000, 0x01, vecPart0, vecEntry0, "c9766d55ffc12be13aec36f2a1cdb8c1ee0edba4ec749e6668e31cd321b640f8"},
		{ApprovalDecided, 1790000123000000, 0x21, vecPart1, vecEntry1, "186d77468502778dd6a1651ec04d507c35bfde0cd2f22975977f7da9371b068d"},
	} {
		// The part is what the log makes of a body without its own members.
		body := map[string]any{}
		p := OpenPart{JSON: []byte(v.part)}
		for name, value := range p.Fields() {
			if name != "k" && name != "v" {
				body[name] = value
			}
		}
		stored, err := Part{Body: body}.stored(false)
		if err != nil {
			t.Fatal(err)
		}
		row := Row{Kind: v.kind}
		part, err := row.full(nil, stored, false, nil)
		if err != nil || string(part) != v.part {
			t.Fatalf("part %d = %s, %v", i, part, err)
		}
		e := Entry{
			Kind: v.kind, At: v.at, Writer: [8]byte(seq(8, 0x90)), WSeq: uint64(i) + 1,
			Pseudonyms: [][16]byte{[16]byte(seq(16, 0x70))}, Commitments: [][32]byte{Commit([16]byte(seq(16, v.salt)), part)},
		}
		b, err := e.Append(nil)
		if err != nil || hex.EncodeToString(b) != v.entry {
			t.Errorf("entry %d = %x, %v", i, b, err)
		}
		if leaf := LeafHash(b); hex.EncodeToString(leaf[:]) != v.leaf {
			t.Errorf("leaf %d = %x", i, leaf)
		}
	}
}

func TestProofVector(t *testing.T) {
	signer, vkey := vectorSigner(t)
	if vkey != vecVKey {
		t.Errorf("vkey = %s", vkey)
	}
	entry0, _ := hex.DecodeString(vecEntry0)
	entry1, _ := hex.DecodeString(vecEntry1)
	ctx, store := t.Context(), tileMap{}
	root, tiles, err := Integrate(ctx, store, 0, [][32]byte{LeafHash(entry0), LeafHash(entry1)})
	if err != nil {
		t.Fatal(err)
	}
	store.put(tiles)
	cp, err := SignCheckpoint(signer, "id.example.com/log/1", 2, root)
	if err != nil {
		t.Fatal(err)
	}
	path, err := Inclusion(ctx, store, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(Proof(1, path, cp)); got != vecProof {
		t.Errorf("proof =\n%s\nwant\n%s", got, vecProof)
	}
	index, size, err := VerifyProof([]byte(vecProof), vkey, entry1)
	if err != nil || index != 1 || size != 2 {
		t.Errorf("VerifyProof = %d, %d, %v", index, size, err)
	}
	if _, _, err := VerifyProof([]byte(vecProof), vkey, entry0); err == nil {
		t.Error("the proof of entry 1 proved entry 0")
	}
	if _, _, err := VerifyProof([]byte(strings.Replace(vecProof, "index 1", "index 0", 1)), vkey, entry1); err == nil {
		t.Error("the proof held for another index")
	}
}
