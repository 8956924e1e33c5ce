package countersign

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/jose"
)

// keepFormat is of the file in Config.Keep.
const keepFormat = 1

// keepEvery is how often the same policies are kept anew: what is kept says when the
// issuer last said that they are in force.
const keepEvery = 5 * time.Minute

// kept is what a verifier keeps of its issuer: what it is, the keys that it signs with,
// and a bundle, as it came.
type kept struct {
	Format   int             `json:"format"`
	Metadata *Metadata       `json:"metadata"`
	Keys     json.RawMessage `json:"keys"` // a JWK set
	Head     string          `json:"head"`
	Content  string          `json:"content"`
}

// keep is the file in which one resource server's is.
type keep struct {
	path string
	keys *keySet         // that were kept last
	head jose.BundleHead // and the head, but for its time
	at   time.Time
}

// newKeep makes the folder, and names the file by issuer and audience: several resource
// servers may share a folder.
func newKeep(dir, issuer, audience string) (*keep, error) {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = guarded(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("countersign: Keep: %w", err)
	}
	sum := sha256.Sum256([]byte(issuer + "\n" + audience))
	return &keep{path: filepath.Join(dir, "policies-"+base64.RawURLEncoding.EncodeToString(sum[:12])+".json")}, nil
}

// read gives what was kept of an issuer, and its keys; nil if nothing was.
func (k *keep) read(issuer string) (*kept, *jose.JWKSet, error) {
	text, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var x kept
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, nil, err
	}
	if x.Format != keepFormat || x.Metadata == nil || x.Metadata.Issuer != issuer {
		return nil, nil, errors.New("it is of another format, or of another issuer")
	}
	keys, err := jose.ParseJWKSet(x.Keys)
	return &x, keys, err
}

// write keeps a bundle, whole or not at all, unless the same was kept a moment ago.
func (k *keep) write(m *Metadata, keys *keySet, jws string, head *jose.BundleHead, content string, now time.Time) error {
	same := k.head.Epoch == head.Epoch && k.head.Policy == head.Policy && k.head.Hash == head.Hash
	if k.keys == keys && same && now.Sub(k.at) < keepEvery && !now.Before(k.at) {
		return nil
	}
	set, err := json.Marshal(keys.JWKSet)
	if err != nil {
		return err
	}
	text, err := json.Marshal(kept{keepFormat, m, set, jws, content})
	if err != nil {
		return err
	}
	if err := file.Replace(k.path, text, 0o600); err != nil {
		return err
	}
	k.keys, k.head, k.at = keys, *head, now
	return nil
}

// silent reports whether err says that the issuer did not answer, or only that it cannot:
// a request that it did not take is an answer.
func silent(ctx context.Context, err error) bool {
	var way *url.Error
	var answer *ResponseError
	if errors.As(err, &answer) {
		return ctx.Err() == nil && answer.Status/100 == 5
	}
	return ctx.Err() == nil && errors.As(err, &way)
}

// meet reads what the issuer is and its keys. One that does not answer is taken for what
// it was when its policies were last kept, if these may still be held.
func (v *Verifier) meet(ctx context.Context) error {
	var err error
	if v.meta, err = Discover(ctx, v.cfg.Issuer, v.cfg.HTTP); err == nil {
		v.keys = v.cacheOf(v.meta)
		err = v.keys.load(ctx)
	}
	if err == nil || v.bundle == nil || v.bundle.keep == nil || !silent(ctx, err) {
		return err
	}
	x, keys, fault := v.bundle.keep.read(v.cfg.Issuer)
	if x == nil || fault != nil {
		return errors.Join(err, fault)
	}
	v.meta, v.keys = x.Metadata, v.cacheOf(x.Metadata)
	v.keys.set.Store(&keySet{JWKSet: keys, until: v.now()}) // and are read when the issuer answers
	if fault := v.bundle.recall(ctx, x); fault != nil {
		return errors.Join(err, fault)
	}
	v.alone = true
	v.log.Warn("the issuer does not answer: beginning with what was kept of it", "err", err, "policies from", v.now().Add(-v.PolicyStatus().Age))
	return nil
}

func (v *Verifier) cacheOf(m *Metadata) *keyCache {
	return &keyCache{url: m.JWKSURI, hc: plainClient(v.cfg.HTTP), now: v.now}
}

// recall holds the policies that were kept, as if they came now: their head is the
// issuer's, the content is what it names, and it is not older than they may be.
func (b *bundle) recall(ctx context.Context, x *kept) error {
	head, err := b.verify(ctx, x.Head)
	if err != nil {
		return err
	}
	age := b.v.now().Sub(head.IssuedAt.Time())
	if age < -feedSkew || age > bundleLife {
		return fmt.Errorf("the policies that were kept are from %s", head.IssuedAt.Time().UTC().Format(time.RFC3339))
	}
	h := &heldPolicies{epoch: head.Epoch, version: head.Policy, iat: int64(head.IssuedAt), hash: head.Hash, aud: head.Audience[0]}
	if err := h.read(x.Content, b.with); err != nil {
		return err
	}
	b.content = x.Content
	b.sure.Store(-int64(max(age, 0)))
	b.held.Store(h)
	return nil
}
