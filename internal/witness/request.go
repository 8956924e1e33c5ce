package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// maxProof is how many hashes a consistency proof has at most (tlog-witness).
const maxProof = 63

// maxRequest is the longest body of a submission in bytes.
const maxRequest = 64 << 10

// Request is the body of add-checkpoint: a checkpoint, and that it extends the tree of
// the old size.
type Request struct {
	Old        uint64
	Proof      [][32]byte
	Checkpoint []byte
}

// Append writes the body.
func (r Request) Append(dst []byte) []byte {
	dst = fmt.Appendf(dst, "old %d\n", r.Old)
	for _, h := range r.Proof {
		dst = append(base64.StdEncoding.AppendEncode(dst, h[:]), '\n')
	}
	return append(append(dst, '\n'), r.Checkpoint...)
}

var errRequest = errors.New("witness: not a submission")

// ParseRequest reads the body, strictly: only what Append writes, and at most 63
// hashes. The checkpoint is not looked at. On error the request is zero.
func ParseRequest(b []byte) (Request, error) {
	if len(b) > maxRequest {
		return Request{}, errRequest
	}
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	text, isOld := bytes.CutPrefix(line, []byte("old "))
	old, err := strconv.ParseUint(string(text), 10, 64)
	if !ok || !isOld || err != nil || old > math.MaxInt64 || strconv.FormatUint(old, 10) != string(text) {
		return Request{}, errRequest
	}
	r := Request{Old: old}
	for {
		if line, rest, ok = bytes.Cut(rest, []byte("\n")); !ok {
			return Request{}, errRequest
		}
		if len(line) == 0 {
			break
		}
		h, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(h) != 32 || base64.StdEncoding.EncodeToString(h) != string(line) || len(r.Proof) == maxProof {
			return Request{}, errRequest
		}
		r.Proof = append(r.Proof, [32]byte(h))
	}
	if len(rest) == 0 {
		return Request{}, errRequest
	}
	r.Checkpoint = bytes.Clone(rest)
	return r, nil
}
