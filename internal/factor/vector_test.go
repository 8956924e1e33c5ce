package factor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/once"
)

// The challenge of a signature by its numbers, which never change: whoever verifies a
// signature makes it anew.
func TestSigningVector(t *testing.T) {
	c, err := NewCeremony("id.example.com", "https://id.example.com", func() [][]byte { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s := Signing{
		Request: "pub_01JDMX3ZK0W4T5Y6A7B8C9D0E1", Person: "usr_01JDMX3ZK0A1B2C3D4E5F6G7H8", Decision: "publish",
		Action: [32]byte(bytes.Repeat([]byte{1}, 32)), View: ViewHash("Follows version 3\n"), Browser: "b",
	}
	_, kept, err := c.signingOptions(Holder{Passkeys: []Passkey{{ID: "cred_1", CredentialID: []byte{1}}}}, s, bytes.Repeat([]byte{2}, 32), time.Unix(1795698000, 999).UTC())
	if err != nil {
		t.Fatal(err)
	}
	var a asked
	if err := json.Unmarshal(kept.Data, &a); err != nil {
		t.Fatal(err)
	}
	const ceremony = `{"by":"usr_01JDMX3ZK0A1B2C3D4E5F6G7H8","dec":"publish","exp":1795698300,"iat":1795698000,"nonce":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI",` +
		`"org":"https://id.example.com","req":"pub_01JDMX3ZK0W4T5Y6A7B8C9D0E1","rp":"id.example.com","v":1,"view":"uV41V2BWeKvHNTgHPDjSTuqnLgIm4SF-oVRf-R4mK2o"}`
	if a.Ceremony != ceremony {
		t.Errorf("the ceremony is %s", a.Ceremony)
	}
	const want = "xdWHwZ2KeicasiijDM3E1rA8ClL0pDzZsDSwX99GIj0"
	if got := base64.RawURLEncoding.EncodeToString(challenge(s.Action, []byte(ceremony))); got != want || kept.Key != once.KeyOf(once.Signing, want) {
		t.Errorf("the challenge is %s", got)
	}
}
