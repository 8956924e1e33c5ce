package risk

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"
)

// form is the first byte of what MarshalBinary writes.
const form = 3

var errHistory = errors.New("not a history of this form")

// MarshalBinary writes a history: at most 4 KiB.
func (h *History) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, 512+17*len(h.sights))
	b = append(b, form)
	b = putTime(b, h.began, h.faded, h.whereAt, h.counted)
	b = putFloat(b, h.events, h.usual, h.spread)
	for _, w := range []window{h.hour, h.novel} {
		b = putTime(putFloat(b, w.n), w.at)
	}
	b = append(b, byte(len(h.failed)))
	for _, f := range h.failed {
		b = putTime(putFloat(binary.BigEndian.AppendUint64(b, f.network), f.n), f.at)
	}
	for i := range h.hours {
		b = putFloat(b, h.hours[i][:]...)
	}
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(h.where.Latitude))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(h.where.Longitude))
	country := [2]byte{}
	copy(country[:], h.where.Country)
	b = append(b, country[:]...)
	b = append(b, byte(len(h.sights)))
	for _, s := range h.sights {
		b = append(b, byte(s.kind))
		b = binary.BigEndian.AppendUint64(b, s.key)
		b = putTime(b, s.known, s.last)
	}
	b = putTime(b, h.probed)
	b = append(b, byte(len(h.prompts)))
	for _, p := range h.prompts {
		b = binary.BigEndian.AppendUint64(b, p.key)
		b = append(putTime(b, p.asked, p.due), byte(p.end), p.band)
	}
	return b, nil
}

// UnmarshalBinary reads what MarshalBinary wrote. Empty is the zero History; any
// error leaves h the zero History.
func (h *History) UnmarshalBinary(b []byte) error {
	*h = History{}
	if len(b) == 0 {
		return nil
	}
	r := reader{b: b}
	if r.byte() != form {
		return errHistory
	}
	var n History
	n.began, n.faded, n.whereAt, n.counted = r.time(), r.time(), r.time(), r.time()
	n.events, n.usual, n.spread = r.float(), r.float(), r.float()
	n.hour, n.novel = r.window(), r.window()
	if !n.readFailed(&r) {
		return errHistory
	}
	for i := range n.hours {
		for j := range n.hours[i] {
			n.hours[i][j] = r.float()
		}
	}
	n.where.Latitude, n.where.Longitude = math.Float64frombits(r.uint64()), math.Float64frombits(r.uint64())
	if c := [2]byte{r.byte(), r.byte()}; c != [2]byte{} {
		n.where.Country = string(c[:])
	}
	count := int(r.byte())
	var seen [kinds]int
	for range count {
		s := sight{kind: kind(r.byte()), key: r.uint64(), known: r.time(), last: r.time()}
		if s.kind == 0 || s.kind >= kinds || r.short {
			return errHistory
		}
		if seen[s.kind]++; seen[s.kind] > room[s.kind] {
			return errHistory
		}
		n.sights = append(n.sights, s)
	}
	if !n.readPrompts(&r) {
		return errHistory
	}
	if r.short || len(r.b) != 0 || !finite(n.where.Latitude) || !finite(n.where.Longitude) {
		return errHistory
	}
	*h = n
	return nil
}

// readFailed reads the failures; ok is false of what MarshalBinary never writes.
func (h *History) readFailed(r *reader) (ok bool) {
	count := int(r.byte())
	if count > maxFailing {
		return false
	}
	for range count {
		h.failed = append(h.failed, failing{r.uint64(), r.window()})
	}
	return !r.short
}

// readPrompts reads the prompts, and when it probed; ok is false of what MarshalBinary never writes.
func (h *History) readPrompts(r *reader) (ok bool) {
	h.probed = r.time()
	count := int(r.byte())
	for range count {
		p := prompt{key: r.uint64(), asked: r.time(), due: r.time(), end: end(r.byte()), band: r.byte()}
		if p.end >= ends || int(p.band) >= len(bands) || r.short {
			return false
		}
		h.prompts = append(h.prompts, p)
	}
	return count <= maxPrompts && slices.IsSortedFunc(h.prompts, func(a, b prompt) int { return a.asked.Compare(b.asked) })
}

// putTime writes times to the second, 0 for none.
func putTime(b []byte, all ...time.Time) []byte {
	for _, t := range all {
		s := uint32(0)
		if !t.IsZero() {
			s = uint32(t.Unix())
		}
		b = binary.BigEndian.AppendUint32(b, s)
	}
	return b
}

func putFloat(b []byte, all ...float32) []byte {
	for _, f := range all {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// reader reads what is there; short is set when there is less.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) time() time.Time {
	s := binary.BigEndian.Uint32(r.take(4))
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

func (r *reader) window() window { return window{r.float(), r.time()} }

// float reads a count: what is none makes the reading fail.
func (r *reader) float() float32 {
	f := math.Float32frombits(binary.BigEndian.Uint32(r.take(4)))
	if !finite(float64(f)) || f < 0 {
		r.short = true
		return 0
	}
	return f
}
