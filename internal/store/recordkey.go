package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/keyring"
)

// RecordKeys gives the per-person keys of the record (mechanisms E2, E14) out of
// the database, sealed under the deployment's key. It implements audit.Keys and
// audit.Unsealer. It is safe for concurrent use.
type RecordKeys struct {
	store  *Store
	sealer keyring.Sealer
}

var (
	_ audit.Keys     = (*RecordKeys)(nil)
	_ audit.Unsealer = (*RecordKeys)(nil)
)

// RecordKeys makes the record keys of this store.
func (s *Store) RecordKeys(sealer keyring.Sealer) *RecordKeys {
	return &RecordKeys{store: s, sealer: sealer}
}

// recordKeys caches unsealed keys for a short time: an erasure on another
// replica takes effect within keyTTL, and its database row is gone at once.
type recordKeys struct {
	mu       sync.Mutex
	byPerson map[string]*recordKey
	byName   map[[16]byte]*recordKey
}

type recordKey struct {
	person    string
	pseudonym [16]byte
	aead      cipher.AEAD
	readAt    time.Time
}

const (
	keyTTL        = 5 * time.Second
	maxCachedKeys = 10000
)

func (c *recordKeys) put(k *recordKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byPerson == nil || len(c.byPerson) >= maxCachedKeys {
		c.byPerson = make(map[string]*recordKey)
		c.byName = make(map[[16]byte]*recordKey)
	}
	c.byPerson[k.person], c.byName[k.pseudonym] = k, k
}

func (c *recordKeys) forget(person string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.byPerson[person]; ok {
		delete(c.byPerson, person)
		delete(c.byName, k.pseudonym)
	}
}

// fresh gives a cached key, unless it was read too long ago.
func (c *recordKeys) fresh(now time.Time, find func() (*recordKey, bool)) *recordKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := find()
	if !ok || now.Sub(k.readAt) > keyTTL {
		return nil
	}
	return k
}

const recordKeySQL = `SELECT person, pseudonym, sealed FROM record_key `

type sealedKey struct {
	person            string
	pseudonym, sealed []byte
}

func scanSealedKey(row Row) (sealedKey, error) {
	var k sealedKey
	err := row.Scan(&k.person, &k.pseudonym, &k.sealed)
	return k, err
}

func associated(person string) []byte { return []byte("record_key\x00" + person + "\x00sealed\x001") }

// open unseals a key and keeps it.
func (r *RecordKeys) open(k sealedKey) (*recordKey, error) {
	plain, err := r.sealer.Open(k.sealed, associated(k.person))
	if err != nil {
		return nil, fmt.Errorf("store: unseal the record key of %s: %w", k.person, err)
	}
	block, err := aes.NewCipher(plain)
	if err != nil {
		return nil, fmt.Errorf("store: record key of %s: %w", k.person, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(k.pseudonym) != 16 {
		return nil, errors.New("store: a pseudonym has 16 bytes")
	}
	out := &recordKey{person: k.person, pseudonym: [16]byte(k.pseudonym), aead: aead, readAt: r.store.now()}
	r.store.keys.put(out)
	return out, nil
}

// Pseudonym implements audit.Keys. It makes the key of a person who has none
// yet, known to the accounts or about to be; for an erased person it is
// audit.ErrErased.
func (r *RecordKeys) Pseudonym(ctx context.Context, person string) ([16]byte, cipher.AEAD, error) {
	c := &r.store.keys
	if k := c.fresh(r.store.now(), func() (*recordKey, bool) { k, ok := c.byPerson[person]; return k, ok }); k != nil {
		return k.pseudonym, k.aead, nil
	}
	k, ok, err := one(ctx, r.store.db, scanSealedKey, recordKeySQL+`WHERE person = $1`, person)
	if err != nil {
		return [16]byte{}, nil, fmt.Errorf("store: read a record key: %w", err)
	}
	if !ok {
		if k, err = r.create(ctx, person); err != nil {
			return [16]byte{}, nil, err
		}
	}
	open, err := r.open(k)
	if err != nil {
		return [16]byte{}, nil, err
	}
	return open.pseudonym, open.aead, nil
}

// create makes a key unless the person was erased; whoever loses the race
// reads the winner's.
func (r *RecordKeys) create(ctx context.Context, person string) (sealedKey, error) {
	var key [32]byte
	rand.Read(key[:])
	k := sealedKey{person: person, pseudonym: make([]byte, 16)}
	rand.Read(k.pseudonym)
	var err error
	if k.sealed, err = r.sealer.Seal(key[:], associated(person)); err != nil {
		return sealedKey{}, fmt.Errorf("store: seal a record key: %w", err)
	}
	var u unit
	u.check(0, nil, `SELECT COUNT(*) FROM node n LEFT JOIN person p ON p.id = n.id WHERE n.id = $1 AND p.id IS NULL`, person)
	u.then(`INSERT INTO record_key (person, pseudonym, sealed) VALUES ($1, $2, $3) ON CONFLICT (person) DO NOTHING`, person, k.pseudonym, k.sealed)
	var missed *Missed
	if err := r.store.db.Write(ctx, u.Unit); errors.As(err, &missed) {
		return sealedKey{}, audit.ErrErased
	} else if err != nil {
		return sealedKey{}, fmt.Errorf("store: keep a record key: %w", err)
	}
	return need(ctx, r.store.db, "record_key", scanSealedKey, recordKeySQL+`WHERE person = $1`, person)
}

// Unseal implements audit.Unsealer.
func (r *RecordKeys) Unseal(ctx context.Context, pseudonym [16]byte) (string, cipher.AEAD, error) {
	c := &r.store.keys
	if k := c.fresh(r.store.now(), func() (*recordKey, bool) { k, ok := c.byName[pseudonym]; return k, ok }); k != nil {
		return k.person, k.aead, nil
	}
	k, ok, err := one(ctx, r.store.db, scanSealedKey, recordKeySQL+`WHERE pseudonym = $1`, bytes.Clone(pseudonym[:]))
	if err != nil {
		return "", nil, fmt.Errorf("store: read a record key: %w", err)
	}
	if !ok {
		return "", nil, audit.ErrErased
	}
	open, err := r.open(k)
	if err != nil {
		return "", nil, err
	}
	return open.person, open.aead, nil
}

// PseudonymOf gives a person's pseudonym without making one; ok is false if
// nothing was recorded of them, or they were erased.
func (s *Store) PseudonymOf(ctx context.Context, person string) (pseudonym []byte, ok bool, err error) {
	k, ok, err := one(ctx, s.db, scanSealedKey, recordKeySQL+`WHERE person = $1`, person)
	return k.pseudonym, ok, err
}

// OpenOne unseals the key of some person; ok is false if there is none.
func (r *RecordKeys) OpenOne(ctx context.Context) (ok bool, err error) {
	k, ok, err := one(ctx, r.store.db, scanSealedKey, recordKeySQL+`LIMIT 1`)
	if err == nil && ok {
		_, err = r.open(k)
	}
	return ok, err
}
