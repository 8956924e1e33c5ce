package audit

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/canon"
)

const nonceSize = 12

// Record is what an act has to say. Its id is made by the caller (it is also,
// say, the jti of the token that the act issues).
type Record struct {
	ID      string
	Kind    Kind
	At      time.Time // kept to the microsecond
	Leaf    string    // id of the lineage node of what was issued; may be ""
	Refused bool
	// Parts are what is said of each person concerned: first who acted, then
	// to whom it happened; at most seven persons. At most one part is of
	// nobody: it is stored in the clear for good, so it holds no address, no
	// free text and nothing else that could be somebody's (mechanisms E15).
	Parts []Part
	// Facts are what the decision saw, or Interned. They are stored once for
	// all records with the same facts, so they hold nothing of one person or
	// one moment.
	Facts any
}

// Part is what a record says of one person, or of nobody.
type Part struct {
	Person string // person's id; "" concerns nobody
	// Body is a map[string]any or a struct whose JSON is an object; nil says no
	// more than the kind. Integers stay within ±(2⁵³−1). The names f, id, k, l,
	// r, s, v are the log's own.
	Body any
}

// Keys give the per-person record keys (mechanisms E2, E14).
type Keys interface {
	// Pseudonym MUST give the same random pseudonym for a person each time,
	// with AES-256-GCM (12-byte nonce, 16-byte tag) under that person's record
	// key; it makes both for a person who has none. It MUST err for an erased
	// person.
	Pseudonym(ctx context.Context, person string) (pseudonym [16]byte, aead cipher.AEAD, err error)
}

// Unsealer finds a person by pseudonym, to read what Keys sealed.
type Unsealer interface {
	// Unseal MUST give the person and the record key of a pseudonym, or an
	// error that is ErrErased if there is no such key any more.
	Unseal(ctx context.Context, pseudonym [16]byte) (person string, aead cipher.AEAD, err error)
}

// ErrErased says that a record key is gone: its person was erased.
var ErrErased = errors.New("audit: the person was erased")

// Interned are facts in canonical form, with their hash; making them once
// saves the work for each record.
type Interned struct {
	JSON []byte
	Hash [32]byte // SHA-256 of JSON
}

// Intern makes facts ready to be sealed again and again.
func Intern(facts any) (Interned, error) {
	if f, ok := facts.(Interned); ok {
		return f, nil
	}
	b, err := canon.Marshal(facts)
	if err != nil {
		return Interned{}, fmt.Errorf("audit: facts: %w", err)
	}
	return Interned{JSON: b, Hash: sha256.Sum256(b)}, nil
}

// Row is a record as it is stored. The store adds its number and interns Facts
// under FactsHash.
type Row struct {
	ID        string
	Kind      Kind
	At        int64  // microseconds since 1970
	Entry     []byte // mechanisms E1
	Body      []byte // the parts, see splitBody
	Leaf      string // lineage node of what was issued, or ""
	FactsHash []byte // SHA-256 of Facts, or nil
	Facts     []byte // canonical JSON, or nil

	// Ref is the reference of the request that a part names, "" if none does: an index
	// outside the record, of which nothing is proved.
	Ref string
}

// LeafHash is the row's leaf in the log.
func (r Row) LeafHash() [32]byte { return LeafHash(r.Entry) }

// Seal turns a record into a row: it commits to each part, seals what concerns
// a person with that person's key and the record's id as associated data, and
// takes the writer's next number. A number is taken even if the row is never
// stored; Settle says what became of it. It errs if the record is not well formed or keys do.
func (w *Writer) Seal(ctx context.Context, rec Record, keys Keys) (Row, error) {
	general, persons, err := rec.split()
	if err != nil {
		return Row{}, err
	}
	row := Row{ID: rec.ID, Kind: rec.Kind, At: rec.At.UnixMicro(), Leaf: rec.Leaf, Ref: rec.ref()}
	if rec.Facts != nil {
		facts, err := Intern(rec.Facts)
		if err != nil {
			return Row{}, err
		}
		row.Facts, row.FactsHash = facts.JSON, facts.Hash[:]
	}
	m := 1 + len(persons)
	var random [maxParts * (16 + nonceSize)]byte
	rand.Read(random[:m*16+len(persons)*nonceSize])
	salts, nonces := random[:m*16], random[m*16:]

	e := Entry{Kind: rec.Kind, At: row.At, Writer: w.id}
	var commitments [maxParts][32]byte
	e.Commitments = commitments[:m]
	var sealed []byte
	for i, p := range persons {
		pseudonym, aead, err := keys.Pseudonym(ctx, p.Person)
		if err != nil {
			return Row{}, fmt.Errorf("audit: record key: %w", err)
		}
		if aead.NonceSize() != nonceSize || aead.Overhead() != 16 {
			return Row{}, errors.New("audit: a record key is not AES-GCM")
		}
		stored, err := p.stored(false)
		if err != nil {
			return Row{}, err
		}
		salt := [16]byte(salts[(i+1)*16:])
		if e.Commitments[i+1], err = row.commit(salt, stored, false, nil); err != nil {
			return Row{}, err
		}
		e.Pseudonyms = append(e.Pseudonyms, pseudonym)
		n := nonceSize + 16 + len(stored) + 16
		if n > 1<<16-1 {
			return Row{}, errTooLarge
		}
		sealed = binary.BigEndian.AppendUint16(sealed, uint16(n))
		nonce := nonces[i*nonceSize:][:nonceSize]
		sealed = append(sealed, nonce...)
		sealed = aead.Seal(sealed, nonce, append(salt[:], stored...), []byte(rec.ID))
	}

	stored, err := general.stored(rec.Refused)
	if err != nil {
		return Row{}, err
	}
	if 16+len(stored) > 1<<16-1 {
		return Row{}, errTooLarge
	}
	if e.Commitments[0], err = row.commit([16]byte(salts), stored, true, sealed); err != nil {
		return Row{}, err
	}
	row.Body = make([]byte, 0, 4+16+len(stored)+len(sealed))
	row.Body = append(row.Body, bodyVersion, byte(m))
	row.Body = binary.BigEndian.AppendUint16(row.Body, uint16(16+len(stored)))
	row.Body = append(row.Body, salts[:16]...)
	row.Body = append(row.Body, stored...)
	row.Body = append(row.Body, sealed...)

	e.WSeq = w.seq.Add(1)
	if row.Entry, err = e.Append(make([]byte, 0, entryFixed+16*len(e.Pseudonyms)+32*m)); err == nil {
		w.took(e.WSeq, &row)
	}
	return row, err
}

var errTooLarge = errors.New("audit: a part is longer than 64 KiB")

// ref is the reference of the request that a part names, as LineOf has it: a person's
// part goes before the general one.
func (rec Record) ref() (ref string) {
	for _, of := range [...]bool{false, true} {
		for _, p := range rec.Parts {
			said, ok := p.Body.(map[string]any)
			if named, _ := said["ref"].(string); ok && named != "" && (p.Person != "") == of {
				ref = named
			}
		}
	}
	return ref
}

// split checks the record and parts it into what concerns nobody and the rest.
func (rec Record) split() (general Part, persons []Part, err error) {
	switch {
	case !rec.Kind.Known():
		return Part{}, nil, fmt.Errorf("audit: there is no kind %#04x", uint16(rec.Kind))
	case rec.ID == "" || !plainASCII(rec.ID) || !plainASCII(rec.Leaf):
		return Part{}, nil, errors.New("audit: a record needs an id, and ids are plain ASCII")
	case rec.At.UnixMicro() < 0:
		return Part{}, nil, errors.New("audit: a record is not of before 1970")
	}
	nobody := false
	for i, p := range rec.Parts {
		if p.Person == "" {
			if nobody {
				return Part{}, nil, errors.New("audit: a record has one part that concerns nobody")
			}
			general, nobody = p, true
			continue
		}
		for _, q := range rec.Parts[:i] {
			if q.Person == p.Person {
				return Part{}, nil, errors.New("audit: a record has one part for each person")
			}
		}
		persons = append(persons, p)
	}
	if len(persons) >= maxParts {
		return Part{}, nil, errors.New("audit: a record concerns at most 7 persons")
	}
	return general, persons, nil
}

// stored is the canonical body as it is kept, with r if the act was refused.
func (p Part) stored(refused bool) ([]byte, error) {
	b, err := marshal(make([]byte, 0, 256), p.Body)
	if err != nil {
		return nil, err
	}
	with, err := addMembers(make([]byte, 0, len(b)+9), b, []member{{"r", "true"}})
	if refused || err != nil {
		return with, err
	}
	return b, nil
}

// full puts the log's own members back into a stored part.
func (r *Row) full(dst, stored []byte, general bool, sealed []byte) ([]byte, error) {
	facts, hash := "", ""
	if general {
		facts = base64.RawURLEncoding.EncodeToString(r.FactsHash)
		if len(sealed) > 0 {
			sum := sha256.Sum256(sealed)
			hash = base64.RawURLEncoding.EncodeToString(sum[:])
		}
	}
	return addMembers(dst, stored, ownMembers(r.Kind, general, r.ID, r.Leaf, facts, hash))
}

func (r *Row) commit(salt [16]byte, stored []byte, general bool, sealed []byte) ([32]byte, error) {
	var room [512]byte
	part, err := r.full(room[:0], stored, general, sealed)
	if err != nil {
		return [32]byte{}, err
	}
	return Commit(salt, part), nil
}

// OpenPart is a part of a row, opened. A part of a person whose key is gone is
// Erased; one that was sealed and no keys were given to open it has no JSON
// either, but is not Erased.
type OpenPart struct {
	Person    string   // "" for the general part, and if it did not open
	Pseudonym [16]byte // zero for the general part
	Erased    bool
	JSON      []byte // canonical, with the log's own members; nil if it did not open
}

// Tampered says that a row is not what was sealed.
type Tampered struct{ What string }

// Error implements error.
func (t *Tampered) Error() string { return "audit: " + t.What }

func tampered(what string) error { return &Tampered{What: what} }

// Open checks a row against its entry and opens its parts, the general one
// first: every column must be what the entry, or a commitment in it, says. keys
// may be nil: then sealed parts stay closed, though a change to what is stored
// of them is still found, since the general part covers their bytes. The error
// is *Tampered if the row was changed, or that of keys.
//
// Open proves a row against its own entry; that the entry is the one logged is
// for Verify.
func Open(ctx context.Context, row Row, keys Unsealer) ([]OpenPart, error) {
	e, parts, sealed, err := row.check()
	if err != nil {
		return nil, err
	}
	general, err := row.full(nil, parts[0][16:], true, sealed)
	if err != nil {
		return nil, tampered("the general part is not well formed")
	}
	if Commit([16]byte(parts[0]), general) != e.Commitments[0] {
		return nil, tampered("the general part, or the id, lineage node or facts it covers, was changed")
	}
	out := make([]OpenPart, 1, len(parts))
	out[0].JSON = general
	for i, pseudonym := range e.Pseudonyms {
		p := OpenPart{Pseudonym: pseudonym}
		if keys != nil {
			if err := row.unseal(ctx, &p, parts[i+1], e.Commitments[i+1], keys); err != nil {
				return nil, err
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// check compares the columns with the entry.
func (r *Row) check() (e Entry, parts [][]byte, sealed []byte, err error) {
	if e, err = ParseEntry(r.Entry); err != nil {
		return e, nil, nil, tampered("the entry is not well formed")
	}
	switch {
	case e.Kind != r.Kind:
		return e, nil, nil, tampered("the kind is not the entry's")
	case !e.Kind.Known():
		return e, nil, nil, tampered("the kind is not one this release knows")
	case e.At != r.At:
		return e, nil, nil, tampered("the time is not the entry's")
	case r.ID == "" || !plainASCII(r.ID) || !plainASCII(r.Leaf):
		return e, nil, nil, tampered("the id or the lineage node is not well formed")
	case len(r.FactsHash) != 0 && len(r.FactsHash) != sha256.Size:
		return e, nil, nil, tampered("the hash of the facts is not well formed")
	case len(r.FactsHash) == 0 && len(r.Facts) != 0:
		return e, nil, nil, tampered("there are facts that the record does not name")
	}
	if len(r.FactsHash) != 0 {
		if sum := sha256.Sum256(r.Facts); !bytes.Equal(sum[:], r.FactsHash) {
			return e, nil, nil, tampered("the facts are not those the record names")
		}
	}
	if parts, sealed, err = splitBody(r.Body); err != nil {
		return e, nil, nil, tampered("the stored parts are not well formed")
	}
	if len(parts) != len(e.Commitments) || len(parts) != len(e.Pseudonyms)+1 {
		return e, nil, nil, tampered("there are not as many parts as the entry says")
	}
	return e, parts, sealed, nil
}

func (r *Row) unseal(ctx context.Context, p *OpenPart, part []byte, want [32]byte, keys Unsealer) error {
	person, aead, err := keys.Unseal(ctx, p.Pseudonym)
	switch {
	case errors.Is(err, ErrErased):
		p.Erased = true
		return nil
	case err != nil:
		return fmt.Errorf("audit: record key: %w", err)
	}
	clear, err := aead.Open(nil, part[:nonceSize], part[nonceSize:], []byte(r.ID))
	if err != nil {
		return tampered("a sealed part does not open with its person's key")
	}
	if p.JSON, err = r.full(nil, clear[16:], false, nil); err != nil || Commit([16]byte(clear), p.JSON) != want {
		return tampered("a sealed part is not the one committed to")
	}
	p.Person = person
	return nil
}
