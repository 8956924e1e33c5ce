package countersign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// DPoPKey is the key that a client proves to hold with every request (RFC
// 9449). It never shows itself in logs.
type DPoPKey struct {
	key crypto.Signer
	jkt string
}

// GenerateDPoPKey makes a P-256 key in memory.
func GenerateDPoPKey() (*DPoPKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("countersign: DPoP key: %w", err)
	}
	return NewDPoPKey(k)
}

// NewDPoPKey uses a key that exists, for instance one that cannot leave its
// device: P-256, P-384, Ed25519 or RSA.
func NewDPoPKey(key crypto.Signer) (*DPoPKey, error) {
	jkt, err := jose.Thumbprint(key.Public())
	if err != nil {
		return nil, fmt.Errorf("countersign: DPoP key: %w", err)
	}
	return &DPoPKey{key: key, jkt: jkt}, nil
}

// ParseDPoPKey reads what Marshal wrote.
func ParseDPoPKey(data []byte) (*DPoPKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
		return nil, errors.New("countersign: DPoP key: not one PKCS #8 PEM block")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("countersign: DPoP key: the PKCS #8 block is damaged") // the cause may quote the key
	}
	s, ok := k.(*ecdsa.PrivateKey)
	if !ok || s.Curve != elliptic.P256() {
		return nil, errors.New("countersign: DPoP key: not a P-256 key")
	}
	return NewDPoPKey(s)
}

// Marshal writes the private key as PKCS #8 in PEM. It fails for a key that
// cannot leave its device.
func (k *DPoPKey) Marshal() ([]byte, error) {
	s, ok := k.key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("countersign: this DPoP key cannot be exported")
	}
	der, err := x509.MarshalPKCS8PrivateKey(s)
	if err != nil {
		return nil, fmt.Errorf("countersign: DPoP key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Thumbprint is the jkt of tokens bound to this key (RFC 9449 section 6.1),
// and the dpop_jkt of an authorization request (section 10).
func (k *DPoPKey) Thumbprint() string { return k.jkt }

// Proof makes a proof for one request. accessToken is the token sent with it,
// "" at the token endpoint; nonce is what the server last asked for, "" if it
// did not. A proof is used once.
func (k *DPoPKey) Proof(method, url, accessToken, nonce string) (string, error) {
	return k.proofAt(method, url, accessToken, nonce, time.Now())
}

func (k *DPoPKey) proofAt(method, url, accessToken, nonce string, now time.Time) (string, error) {
	return jose.MakeDPoP(k.key, method, url, nonce, accessToken, now)
}

// String implements fmt.Stringer: the thumbprint.
func (k *DPoPKey) String() string { return "DPoP key " + k.jkt }

// GoString implements fmt.GoStringer without telling.
func (k *DPoPKey) GoString() string { return k.String() }

// LogValue implements slog.LogValuer without telling.
func (k *DPoPKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// nonceJar remembers the newest DPoP nonce of each origin; nonces of
// authorization server and resource server are different spaces. The zero
// value is ready.
type nonceJar struct {
	mu sync.Mutex
	m  map[string]string
}

const maxNonceOrigins = 64

func (j *nonceJar) get(u *url.URL) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.m[u.Scheme+"://"+u.Host]
}

// put keeps the nonce of an answer, if it has one, and tells whether it did.
func (j *nonceJar) put(u *url.URL, h http.Header) bool {
	n := h.Get("DPoP-Nonce")
	if n == "" || len(n) > 512 {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.m == nil || len(j.m) >= maxNonceOrigins {
		j.m = map[string]string{}
	}
	j.m[u.Scheme+"://"+u.Host] = n
	return true
}
