package jose

import (
	"encoding/json"
	"strconv"
)

// TypFeed is the typ of a revocation frame (mechanisms C11).
const TypFeed = "countersign-revocations+jwt"

// DefaultFeedBytes is the largest frame taken unless the caller says more.
const DefaultFeedBytes = 1 << 20

// Entry refuses, or again admits, the tokens with a handle (mechanisms C9).
type Entry struct {
	Handle string // 12 base64url characters (mechanisms C3)
	Cutoff *int64 // 0: every token; otherwise those issued at or before; nil: thawed
}

// Ended is an entry that refuses every token with the handle.
func Ended(handle string) Entry { return Entry{Handle: handle, Cutoff: new(int64)} }

// Thawed is an entry that takes an earlier one back.
func Thawed(handle string) Entry { return Entry{Handle: handle} }

// MarshalJSON writes [handle, cutoff].
func (e Entry) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 40), '[')
	h, err := json.Marshal(e.Handle)
	if err != nil {
		return nil, err
	}
	b = append(append(b, h...), ',')
	if e.Cutoff == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, *e.Cutoff, 10)
	}
	return append(b, ']'), nil
}

// FeedFrame is one frame of the revocation feed, or a snapshot (mechanisms
// C11, C12).
type FeedFrame struct {
	Issuer   string      `json:"iss"`
	Audience Audience    `json:"aud"`
	Epoch    int64       `json:"epoch"`
	Seq      int64       `json:"seq"`
	Prev     int64       `json:"prev"` // equal to Seq and without entries: a heartbeat
	IssuedAt NumericDate `json:"iat"`
	Entries  []Entry     `json:"ents"`
	All      NumericDate `json:"all,omitempty"`   // refuse every token issued at or before
	KeyIDs   []string    `json:"kids,omitempty"`  // signing keys withdrawn
	Policy   int64       `json:"pol,omitempty"`   // lowest acceptable policy version
	Tools    []string    `json:"tools,omitempty"` // frozen tool or resource names
	HW       int64       `json:"hw,omitempty"`    // size of the issuer's log (mechanisms I6)
	Mark     string      `json:"mark,omitempty"`  // epoch and hw, for the issuer's eyes: given back to it (mechanisms I7)
}

// FeedWant is what a frame is held against.
type FeedWant struct {
	Issuer     string
	Audience   string
	Algorithms []string // nil: ES256 only
	MaxBytes   int      // 0: DefaultFeedBytes; a snapshot needs more
}

// VerifyFeedFrame checks form, type, signature, issuer and audience of a
// frame. Whether it is fresh and the next one (mechanisms C13) is the caller's
// to establish. Its errors are problem.Unauthenticated with codes
// feed_malformed, _type, _algorithm, _key, _signature, _issuer and _audience.
func VerifyFeedFrame(frame string, keys KeySet, want FeedWant) (*FeedFrame, error) {
	r := &rowFeed
	algs, size := want.Algorithms, want.MaxBytes
	if algs == nil {
		algs = onlyES256
	}
	if size == 0 {
		size = DefaultFeedBytes
	}
	top, fault := r.signed(frame, keys, algs, size)
	if fault != nil {
		return nil, fault
	}
	c := &claims{object: top}
	f := &FeedFrame{
		Issuer: c.str("iss"), Audience: c.audience(), Epoch: c.int("epoch"), Seq: c.int("seq"), Prev: c.int("prev"),
		IssuedAt: c.date("iat"), All: c.date("all"), KeyIDs: c.strs("kids"), Policy: c.int("pol"), Tools: c.strs("tools"),
		HW: c.int("hw"), Mark: c.str("mark"),
	}
	if !c.entries(f) || f.Seq < f.Prev || f.Prev < 0 {
		c.wrong("ents")
	}
	for _, name := range [...]string{"iss", "aud", "epoch", "seq", "prev", "iat", "ents"} {
		if !c.has(name) {
			return nil, r.malformed("has no " + name)
		}
	}
	if c.bad != "" {
		return nil, r.malformed("has a bad " + c.bad)
	}
	if want.Issuer == "" || f.Issuer != want.Issuer {
		return nil, r.fail("issuer", "is from another issuer")
	}
	if want.Audience == "" || len(f.Audience) != 1 || f.Audience[0] != want.Audience {
		return nil, r.fail("audience", "is for another audience")
	}
	return f, nil
}

// entries reads ents into the frame.
func (c *claims) entries(f *FeedFrame) bool {
	raw := c.raw("ents")
	f.Entries = make([]Entry, 0, len(raw)/18)
	return each(raw, func(raw string) bool {
		p := scanner{s: raw}
		if !p.eat('[') {
			return false
		}
		h, ok1 := p.value()
		handle, ok2 := text(h)
		if !ok1 || !ok2 || len(handle) != 12 || !p.eat(',') {
			return false
		}
		cutoff, ok := p.value()
		if !ok || !p.eat(']') {
			return false
		}
		if cutoff == "null" {
			f.Entries = append(f.Entries, Thawed(handle))
			return true
		}
		n, err := strconv.ParseInt(cutoff, 10, 64)
		if err != nil || n < 0 {
			return false
		}
		f.Entries = append(f.Entries, Entry{Handle: handle, Cutoff: &n})
		return true
	})
}
