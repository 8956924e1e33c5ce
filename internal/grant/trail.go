package grant

import (
	"encoding/binary"
	"time"
)

// A client that renews in several places at once may present a token of which not
// the successor but the successor's successor is current: one request rotated, the
// next one read what it had stored and rotated again, and a third one was under way
// with the first token all the while. Its window is as open as if there had been one
// rotation. So a rotation keeps the steps before it whose windows are open, and the
// newest token is computed through them. Salts are no secrets without a token.

const (
	saltSize = 32
	stepSize = saltSize + 8 + 8
	// maxSteps is how many rotations are kept, the last one included.
	maxSteps = 8
)

// step is a rotation: its salt, when it was, and until when the token that it
// superseded is answered from any network.
type step struct {
	salt        []byte
	rotatedAt   time.Time
	windowUntil time.Time
}

// steps are the rotations that Salt tells of, newest first: the salt of the last
// one, whose times are the family's, and then older ones.
func (f Family) steps() []step {
	if len(f.Salt) < saltSize {
		return nil
	}
	list := []step{{f.Salt[:saltSize], f.RotatedAt, f.WindowUntil}}
	for b := f.Salt[saltSize:]; len(b) >= stepSize; b = b[stepSize:] {
		at := func(b []byte) time.Time { return time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC() }
		list = append(list, step{b[:saltSize], at(b[saltSize:]), at(b[saltSize+8:])})
	}
	return list
}

// salts is what a rotation with this salt leaves in Salt.
func (f Family) salts(salt []byte, now time.Time) []byte {
	b := append([]byte(nil), salt...)
	for i, s := range f.steps() {
		if i+1 == maxSteps || now.After(s.windowUntil) && now.After(s.rotatedAt.Add(WindowSameNetwork)) {
			break // what is older is over, too
		}
		b = append(b, s.salt...)
		b = binary.BigEndian.AppendUint64(b, uint64(s.rotatedAt.UnixMicro()))
		b = binary.BigEndian.AppendUint64(b, uint64(s.windowUntil.UnixMicro()))
	}
	return b
}

// open reports whether a superseded token is within its window.
func (f Family) open(t Token, network string, now time.Time) bool {
	steps := f.steps()
	back := int(f.Gen - t.Gen)
	switch {
	case f.Static || back > len(steps):
		return false
	case back == 1: // the one whose window may have grown (mechanisms D9)
		return t.Hash().Equal(f.PrevHash) && f.within(network, now)
	}
	s := steps[back-1]
	return !now.After(s.windowUntil) || sameNetwork(f.Network, network) && !now.After(s.rotatedAt.Add(WindowSameNetwork))
}

// Newest is the current token, computed from one that Judge found Replayed. ok is
// false if what comes out is not what the family holds.
func (f Family) Newest(t Token, key []byte) (newest Token, ok bool) {
	steps := f.steps()
	for back := int(f.Gen - t.Gen); back > 0 && back <= len(steps); back-- {
		t = t.Next(key, steps[back-1].salt)
	}
	return t, t.Hash().Equal(f.CurHash)
}
