package audit

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
)

// Beat is what a process vouches for (mechanisms E3): of its numbers from From to
// Last, Count are in the log, and Leaves is SHA-256 over their leaves in the order
// of the numbers; the others never were, or the process does not know.
type Beat struct {
	Writer     [8]byte
	From, Last uint64 // From is Last+1 in an empty one
	Count      uint64
	Leaves     [32]byte
	RolledBack []Range
	Unknown    []Range
	Closing    bool // the process ended after it
}

type beatPart struct {
	Writer  string      `json:"writer"`
	From    uint64      `json:"from"`
	Last    uint64      `json:"last"`
	Count   uint64      `json:"count"`
	Leaves  string      `json:"leaves"`
	Rolled  [][2]uint64 `json:"rolled_back,omitempty"`
	Unknown [][2]uint64 `json:"unknown,omitempty"`
	Closing bool        `json:"closing,omitempty"`
}

// Part is what the record says, of nobody.
func (b Beat) Part() Part {
	return Part{Body: beatPart{
		hex.EncodeToString(b.Writer[:]), b.From, b.Last, b.Count, base64.StdEncoding.EncodeToString(b.Leaves[:]),
		pairs(b.RolledBack), pairs(b.Unknown), b.Closing,
	}}
}

func pairs(list []Range) (out [][2]uint64) {
	for _, r := range list {
		out = append(out, [2]uint64{r.First, r.Last})
	}
	return out
}

var errBeat = errors.New("audit: not what a process vouches for")

// beatOf reads a beat out of its record's general part.
func beatOf(e Entry, general OpenPart) (Beat, error) {
	var p beatPart
	if json.Unmarshal(general.JSON, &p) != nil {
		return Beat{}, errBeat
	}
	leaves, err := base64.StdEncoding.DecodeString(p.Leaves)
	if err != nil || len(leaves) != 32 || p.Writer != hex.EncodeToString(e.Writer[:]) || p.From == 0 || p.Last+1 < p.From {
		return Beat{}, errBeat
	}
	b := Beat{Writer: e.Writer, From: p.From, Last: p.Last, Count: p.Count, Leaves: [32]byte(leaves), Closing: p.Closing}
	numbers := b.Last + 1 - b.From
	for _, list := range []struct {
		from [][2]uint64
		to   *[]Range
	}{{p.Rolled, &b.RolledBack}, {p.Unknown, &b.Unknown}} {
		next := b.From
		for _, r := range list.from {
			if r[0] < next || r[1] < r[0] || r[1] > b.Last {
				return Beat{}, errBeat
			}
			*list.to = append(*list.to, Range{r[0], r[1]})
			if list.to == &b.RolledBack {
				numbers -= r[1] - r[0] + 1
			}
			next = r[1] + 1
		}
	}
	if b.Count > numbers {
		return Beat{}, errBeat
	}
	return b, nil
}

// LostPart is what the record of a process that was lost says, of nobody.
func LostPart(writer [8]byte) Part {
	return Part{Body: map[string]any{"writer": hex.EncodeToString(writer[:])}}
}

// lostOf reads which process was lost.
func lostOf(general OpenPart) (writer [8]byte, err error) {
	var p struct {
		Writer string `json:"writer"`
	}
	var b []byte
	if json.Unmarshal(general.JSON, &p) == nil {
		b, err = hex.DecodeString(p.Writer)
	}
	if err != nil || len(b) != 8 {
		return writer, errBeat
	}
	return [8]byte(b), nil
}
