package jose

import (
	"crypto/sha256"

	"github.com/countersign-dev/countersign/internal/attribute"
)

// TypBundle is the typ of the head of a policy bundle.
const TypBundle = "countersign-bundle+jwt"

// BundleHead is what the issuer signs of the policies that a resource server holds: which
// they are, by the hash of their text, and when they were the ones in force. A newer head
// of the same hash says that they still are.
type BundleHead struct {
	Issuer   string      `json:"iss"`
	Audience Audience    `json:"aud"`
	Epoch    int64       `json:"epoch"` // of the deployment
	Policy   int64       `json:"pol"`   // version of the policies; 0: the default set
	IssuedAt NumericDate `json:"iat"`
	Hash     string      `json:"hash"` // see BundleHash
}

// VerifyBundleHead checks form, type, signature, issuer and audience of a head, whose
// lengths are bounded. Whether it is older than another is the caller's to judge. Its
// errors are problem.Unauthenticated with codes bundle_malformed, _type, _algorithm,
// _key, _signature, _issuer and _audience.
func VerifyBundleHead(head string, keys KeySet, want FeedWant) (*BundleHead, error) {
	r := &rowBundle
	top, fault := r.signed(head, keys, onlyES256, MaxToken)
	if fault != nil {
		return nil, fault
	}
	c := &claims{object: top}
	h := &BundleHead{
		Issuer: c.str("iss"), Audience: c.audience(), Epoch: c.int("epoch"), Policy: c.int("pol"), IssuedAt: c.date("iat"), Hash: c.str("hash"),
	}
	if fault := r.complete(c, "iss", "aud", "epoch", "pol", "iat", "hash"); fault != nil {
		return nil, fault
	}
	if want.Issuer == "" || h.Issuer != want.Issuer {
		return nil, r.fail("issuer", "is from another issuer")
	}
	if want.Audience == "" || len(h.Audience) != 1 || h.Audience[0] != want.Audience {
		return nil, r.fail("audience", "is for another audience")
	}
	return h, nil
}

// BundleContent is the text that a head names by its hash: what a resource server holds
// of the policies.
type BundleContent struct {
	Format   int                     `json:"v"` // BundleFormat, or BundleTyped
	Schema   string                  `json:"schema,omitempty"`
	Policies string                  `json:"policies,omitempty"`
	Groups   map[string][]string     `json:"groups,omitempty"` // the people in them, as BundleMember names them
	Actions  map[string]BundleAction `json:"actions"`
	// Types are the attributes that the resource server says of its things, by type of
	// thing; none in BundleFormat.
	Types map[string]attribute.Types `json:"types,omitempty"`
}

// The formats of a content. Who does not know BundleTyped would decide without what is
// said of things, and does not take it.
const (
	BundleFormat = 1
	BundleTyped  = 2 // it has Types
)

// Declare adds what is declared of a type of thing.
func (c *BundleContent) Declare(thing string, types attribute.Types) {
	if len(types) == 0 {
		return
	}
	if c.Types == nil {
		c.Types = map[string]attribute.Types{}
	}
	c.Format, c.Types[thing] = BundleTyped, types
}

// BundleAction is where one action is decided.
type BundleAction struct {
	Local     bool     `json:"local,omitempty"`  // by the policies of the bundle; else by the server
	Held      bool     `json:"held,omitempty"`   // its policies are in the bundle
	Groups    bool     `json:"groups,omitempty"` // and ask who is in a group
	Last      bool     `json:"last,omitempty"`   // in an outage, by them; else nobody may do it
	Kinds     []string `json:"kinds"`            // of principal
	Resources []string `json:"resources"`        // types of thing
}

// The labels are canon's, which is not compiled into the SDK.
const (
	labelBundle = "countersign/v1/bundle\x00"
	labelMember = "countersign/v1/member\x00"
)

// BundleHash names a content.
func BundleHash(text string) string {
	sum := sha256.Sum256([]byte(labelBundle + text))
	return b64.EncodeToString(sum[:])
}

// BundleMember is how a bundle names a person towards an audience. It is of the subject
// that tokens say, which is random: who is never seen at the audience stays unknown there,
// and the bundles of two audiences cannot be compared.
func BundleMember(audience, subject string) string {
	within := sha256.Sum256([]byte(audience))
	sum := sha256.Sum256(append(append([]byte(labelMember), within[:]...), subject...))
	return b64.EncodeToString(sum[:12])
}
