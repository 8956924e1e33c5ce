package audit

import (
	"encoding/binary"
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersign-dev/countersign/internal/canon"
)

const (
	entryVersion = 1
	maxPersons   = 8
	maxParts     = 8
	entryFixed   = 1 + 2 + 8 + 8 + 8 + 1 + 1
	// MaxEntry is the longest entry in bytes (mechanisms E1).
	MaxEntry = entryFixed + maxPersons*16 + maxParts*32
)

// Entry is what the log holds of a record (mechanisms E1): no free text, no
// name, no address, only numbers, pseudonyms and commitments.
type Entry struct {
	Kind        Kind
	At          int64 // microseconds since 1970, not negative
	Writer      [8]byte
	WSeq        uint64
	Pseudonyms  [][16]byte // at most 8
	Commitments [][32]byte // at most 8
}

// Append writes the entry in its one binary form, big-endian, to dst.
func (e Entry) Append(dst []byte) ([]byte, error) {
	if len(e.Pseudonyms) > maxPersons || len(e.Commitments) > maxParts {
		return nil, errors.New("audit: an entry has at most 8 persons and 8 parts")
	}
	if e.At < 0 {
		return nil, errors.New("audit: an entry's time is not before 1970")
	}
	dst = append(dst, entryVersion)
	dst = binary.BigEndian.AppendUint16(dst, uint16(e.Kind))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.At))
	dst = append(dst, e.Writer[:]...)
	dst = binary.BigEndian.AppendUint64(dst, e.WSeq)
	dst = append(dst, byte(len(e.Pseudonyms)))
	for i := range e.Pseudonyms {
		dst = append(dst, e.Pseudonyms[i][:]...)
	}
	dst = append(dst, byte(len(e.Commitments)))
	for i := range e.Commitments {
		dst = append(dst, e.Commitments[i][:]...)
	}
	return dst, nil
}

var errEntry = errors.New("audit: not an entry")

// ParseEntry reads an entry and accepts only what Append writes. On error the
// entry is zero. A kind that is not in the table is accepted: a later release
// wrote it.
func ParseEntry(b []byte) (Entry, error) {
	if len(b) < entryFixed || len(b) > MaxEntry || b[0] != entryVersion {
		return Entry{}, errEntry
	}
	at := binary.BigEndian.Uint64(b[3:])
	if at>>63 != 0 {
		return Entry{}, errEntry
	}
	e := Entry{
		Kind:   Kind(binary.BigEndian.Uint16(b[1:])),
		At:     int64(at),
		Writer: [8]byte(b[11:19]),
		WSeq:   binary.BigEndian.Uint64(b[19:]),
	}
	n, rest := int(b[27]), b[28:]
	if n > maxPersons || len(rest) < n*16+1 {
		return Entry{}, errEntry
	}
	for i := range n {
		e.Pseudonyms = append(e.Pseudonyms, [16]byte(rest[i*16:]))
	}
	rest = rest[n*16:]
	m := int(rest[0])
	rest = rest[1:]
	if m > maxParts || len(rest) != m*32 {
		return Entry{}, errEntry
	}
	for i := range m {
		e.Commitments = append(e.Commitments, [32]byte(rest[i*32:]))
	}
	return e, nil
}

// Commit is the commitment to a part (mechanisms E2): salt is 16 random bytes,
// part its canonical JSON (RFC 8785).
func Commit(salt [16]byte, part []byte) [32]byte {
	return canon.H(canon.LabelAudit, salt[:], part)
}

// LeafHash is the Merkle leaf of an entry: SHA-256(0x00 ‖ entry), RFC 6962
// section 2.1.
func LeafHash(entry []byte) [32]byte { return tlog.RecordHash(entry) }
